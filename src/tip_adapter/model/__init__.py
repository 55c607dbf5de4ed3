"""FewShotClassifier and what it delegates to: settings, fitting, prediction, incremental learning, saving, export."""
