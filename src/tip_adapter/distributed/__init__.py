"""Label very many images: parts with manifests, each done exactly once, by processes on this machine or by Ray on a cluster."""

#: Engines, in the words of `--engine`.
ENGINES = ("local", "ray")
#: Images of the largest parts.
PART_ROWS = 1_000_000
#: Share of images that may be unreadable.
MAX_ERROR_RATE = 0.1
