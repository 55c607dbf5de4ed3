// The texts of the page. A text is a string, or a function of what it is about.

import { state, update } from "./store.js";

export const LANGUAGES = { en: "English", zh: "中文" };

const count = (n) => new Intl.NumberFormat(state.language).format(n);
const mib = (bytes) => `${count(Math.round((10 * bytes) / 2 ** 20) / 10)} MiB`;
const photos = (n) => (n === 1 ? "1 photo" : `${count(n)} photos`);

const EN = {
  // around the views
  skip: "Skip to the content", views: "Views", language: "Language", close: "Close", copy: "Copy", copied: "Copied.",
  collection: "Collection", quality: "How good is it?", use: "Use it",
  undo: "Undo", undo_keys: "Undo (Ctrl+Z)", undone: (what) => `Undone: ${what}`, nothing_to_undo: "There is nothing to undo.",
  disconnected: "The service does not answer. Trying again; what you sent is kept.",
  not_stored: "The service cannot store anything at present. Trying again; what you sent is kept here.", project_gone: (name) => `The project ${name} was deleted elsewhere.`,
  unreachable: "The service does not answer; try again when it does.", unreadable_file: "the file was moved, deleted or changed since it was chosen",
  restarted: "The service was restarted. Nothing is lost: go on.",
  expired: "The service asks for its token: open its address followed by /?token= and TIP_ADAPTER_TOKEN.",
  uploads: "Uploads", uploading: (done, total) => `Sending photos: ${count(done)} of ${count(total)}`,
  failed: (n) => (n === 1 ? "1 photo was not accepted:" : `${count(n)} photos were not accepted:`), more_failed: (n) => `and ${count(n)} more`,
  try_again: "Try again", empty_file: "the file is empty: it has 0 bytes", too_large: (size, most) => `it has ${mib(size)}, at most ${mib(most)} are accepted`,
  pages: "Pages", previous: "Previous", next: "Next", range: (first, last, total) => `${count(first)}–${count(last)} of ${count(total)}`,

  // classes
  classes: "Classes", class_name: "Name of the class", add_class: "Add", first_class: "Name of a class, such as cat", next_class: "Name of the next class",
  welcome: "What should it recognise?",
  welcome_more: "Name two things or more. It answers by their names at once, and better with each photo that you add. No training is needed.",
  folders_hint: "Or drop folders of photos here: each becomes a class.", choose_folder: "Folder", no_folders: "Found photos without folders: drop folders, whose names become classes.",
  n_photos: photos, by_name: "no photos yet: it is recognised by its name", disabled: "disabled: never answered", none_of_these: "None of these",
  edit_class: (label) => `Rename ${label}`, delete_class: (label) => `Delete ${label}`, class_deleted: (label) => `Deleted the class ${label} and its photos.`,
  disable_class: (label) => `Disable ${label}`, enable_class: (label) => `Enable ${label}`,
  read_name: "Described to the encoder as", read_name_hint: "In English: words that a photo of it would have as caption, such as “golden retriever”.",
  save: "Save", cancel: "Cancel",
  photos: "Photos", photo: "Photo", camera: "Camera", show_all: (n) => `Show all ${count(n)} photos`, show_fewer: "Show fewer",
  move_to: "Move to …", delete_photo: "Delete", photo_deleted: (name) => `Deleted ${name}.`, duplicate: (name) => `${name} is here already, and was not added twice.`,

  // camera
  hold_to_record: "Hold to record", recording: (n) => `Recording: ${photos(n)}`, close_camera: "Close the camera",
  no_camera: (reason) => `The camera cannot be used: ${reason}`,
  camera_needs_https: "browsers allow it only on pages opened over HTTPS or from this machine (localhost)",

  // test area
  test: "Test", test_hint: "Drop a photo here, paste one, choose one, or use the camera: what is it?", clear: "Remove the photo",
  needs_class: "Add a class first.", asking: "Asking …", scores: "Probability of each class",
  below_threshold: (label, score, least) => `Most like ${label} with ${score}, which is below the threshold of ${least}.`,
  threshold_line: (least) => `Below ${least}: none of these`, add_to: "Wrong or new? Add this photo to", choose_class: "choose a class",
  why: (label) => `Why ${label}?`, evidence_photo: (share) => `A photo that contributes ${share}`,
  these_photos: (n) => (n === 1 ? "This photo" : `These ${n} photos`), other_photos: (n) => `${count(n)} other photo${n === 1 ? "" : "s"}`, its_name: (name) => `The name “${name}”`,

  // collection
  collection_hint: "Photos without labels: all of them are sorted by a class that you choose. They are read in the background; only small versions are kept.",
  collection_empty: "Drop a folder of photos here: thousands are fine.", csv: "CSV", csv_hint: "Each photo of the collection with its answer and the scores of all classes.",
  pending: (n) => `Reading ${photos(n)} …`, unreadable: (n) => `${photos(n)} could not be read: they are last, with the reason.`, unreadable_mark: "unreadable", unreadable_photo: "It could not be read:",
  least_certain: "Least certain: label these next", least_certain_hint: (label) => `Is it ${label}? It learns most from your answers for these.`,
  sorted_by: (label, n) => `Most like ${label} first: ${photos(n)}`, keys_hint: "Keys on a photo: Y yes, N not this, arrows for the next one.",
  sorting_class: "Sorted by", which_photos: "Which photos", shown_open: "Without label", shown_labelled: "Labelled", shown_all: "All",
  yes: "Yes", not_this: "Not this", yes_photo: (name, label) => `Yes: ${name} is ${label}`, not_photo: (name, label) => `Not this: ${name} is not ${label}`,
  it_is: "It is …", take_back: "Take the label back", labelled_as: (label) => `You said: ${label}`, answered_as: (label, score) => `Answer: ${label}, ${score}`,
  photo_described: (name, label, score) => `${name}: ${label} ${score}`,

  // quality
  report_empty: "Add photos first: each is left out once, and asked about as if it were new.", report_waiting: "Leaving photos out …",
  accuracy: "Right for photos that it has not seen", interval: (low, high, n) => `Between ${low} and ${high} (95 %), from ${photos(n)}, each left out once.`,
  not_left_out: (n) => `${photos(n)} could not be left out, since no other photo of the class differs.`,
  no_accuracy: "Not measured yet: a class needs two photos that differ.", right_of: (right, n) => `${count(right)} of ${count(n)}`,
  next_steps: "What to do next", needs_photos: "These classes need more photos:", enough_photos: "No class needs photos more than the others.",
  confusion: "What is mistaken for what", confusion_hint: "Rows: what the photos are. Columns: what is answered for them when they are left out.",
  suspicious: "Possibly wrong labels", suspicious_hint: "The other photos say something else about these.",
  looks_like: (is, looks, score) => `Labelled ${is} (${score} probable), looks like ${looks}`, move_to_class: (label) => `Move to ${label}`,
  duplicates: "Nearly the same photo twice", duplicates_hint: "The second of two adds little. They are left out together.", delete_second: "Delete the second", second_photo: "the second photo",

  // fine-tuning
  fine_tuning: "Fine-tuning", fine_tune: "Fine-tune",
  fine_tuning_hint: "Trains on all photos for a while, and measures whether that helps. You decide then. The result learns no new photos: as soon as photos or classes change, the project learns at once again, without it.",
  training: (epoch, epochs) => `Epoch ${count(epoch)} of ${count(epochs)}`, training_hint: "You can go on; what you change now is not in the result.",
  training_outdated: "Photos or classes have changed since: the project learns at once again. Fine-tune again to compare.",
  training_cancelled: "Cancelled. Nothing has changed.", training_failed: "The training ended early:", training_interrupted: "The service was stopped during the training. Start it again.",
  training_accepted: "The fine-tuned result answers, until photos or classes change.",
  before: "Before", after: "After", with_interval: (share, low, high) => `${share} (${low}–${high})`,
  verdict_better: (better, worse) => `Fine-tuning helps: ${photos(better)} became right, ${count(worse)} became wrong.`,
  verdict_worse: (better, worse) => `Fine-tuning does harm: ${photos(worse)} became wrong, ${count(better)} became right.`,
  verdict_no_difference: (better, worse) => `No clear difference: ${photos(better)} became right, ${count(worse)} became wrong, and chance alone makes as much.`,
  compared_on: (n) => `What is right of ${photos(n)} that neither had seen, with the 95 % interval: each was left out of one of several trainings.`,
  use_fine_tuned: "Use the fine-tuned result", dismiss: "Dismiss", stop_using: "Stop using it",

  // projects
  projects: "Projects", new_project: "New project", open_file: "Open a project file", open: "Open", opened: "Opened", no_projects: "There are none yet.",
  rename_project: (name) => `Name of the project ${name}`, save_project: (name) => `Download ${name} as one file`, delete_project: (name) => `Delete the project ${name}`,
  delete_project_sure: (name) => `Delete the project “${name}” with all its photos? This cannot be undone.`, imported: (name) => `Opened ${name}.`,
  project_size: (classes, examples, collected) => `${count(classes)} class${classes === 1 ? "" : "es"}, ${photos(examples)}, ${count(collected)} in the collection`,

  // use
  use_empty: "Add a class first.", take_along: "Take it along",
  export_project: "Project file", export_project_hint: "All classes and photos, to open them again here or elsewhere.",
  export_model: "Model folder", export_model_hint: "For the command line and Python: model.zip.",
  export_onnx: "ONNX", export_onnx_hint: "One file for any ONNX Runtime, in browsers and phones too.",
  snippet_shell: "Command line", snippet_sort: "Sort a folder of photos into folders", snippet_python: "Python", snippet_curl: "curl, from the running service",
};

const n = count;
const ZH = {
  skip: "跳到正文", views: "视图", language: "语言", close: "关闭", copy: "复制", copied: "已复制。",
  collection: "图库", quality: "效果如何？", use: "使用",
  undo: "撤销", undo_keys: "撤销（Ctrl+Z）", undone: (what) => `已撤销：${what}`, nothing_to_undo: "没有可撤销的操作。",
  disconnected: "服务没有响应，正在重试；已发送的内容不会丢失。",
  not_stored: "服务暂时无法保存任何内容，正在重试；已发送的内容保留在这里。", project_gone: (name) => `项目 ${name} 已在别处被删除。`,
  unreachable: "服务没有响应；请在恢复后重试。", unreadable_file: "选择之后，文件被移动、删除或修改了",
  restarted: "服务已重新启动。没有任何丢失，请继续。",
  expired: "服务要求令牌：请打开它的网址并加上 /?token= 和 TIP_ADAPTER_TOKEN。",
  uploads: "上传", uploading: (done, total) => `正在发送照片：${n(done)} / ${n(total)}`,
  failed: (k) => `${n(k)} 张照片未被接受：`, more_failed: (k) => `还有 ${n(k)} 张`,
  try_again: "重试", empty_file: "文件是空的（0 字节）", too_large: (size, most) => `大小为 ${mib(size)}，最多接受 ${mib(most)}`,
  pages: "分页", previous: "上一页", next: "下一页", range: (first, last, total) => `第 ${n(first)}–${n(last)} 张，共 ${n(total)} 张`,

  classes: "类别", class_name: "类别名称", add_class: "添加", first_class: "类别名称，例如：猫", next_class: "下一个类别的名称",
  welcome: "要识别什么？",
  welcome_more: "说出两种或更多的东西。它立刻按名称回答，每添加一张照片就更准，不需要训练。",
  folders_hint: "也可以把照片文件夹拖到这里：每个文件夹成为一个类别。", choose_folder: "文件夹", no_folders: "这些照片不在文件夹里：请拖入文件夹，其名称即类别。",
  n_photos: (k) => `${n(k)} 张照片`, by_name: "还没有照片：按名称识别", disabled: "已停用：不会作为答案", none_of_these: "都不是",
  edit_class: (label) => `重命名 ${label}`, delete_class: (label) => `删除 ${label}`, class_deleted: (label) => `已删除类别 ${label} 及其照片。`,
  disable_class: (label) => `停用 ${label}`, enable_class: (label) => `启用 ${label}`,
  read_name: "对编码器的描述", read_name_hint: "用英文写：照片说明里会出现的词，例如 “golden retriever”。",
  save: "保存", cancel: "取消",
  photos: "照片", photo: "照片", camera: "摄像头", show_all: (k) => `显示全部 ${n(k)} 张照片`, show_fewer: "收起",
  move_to: "移动到…", delete_photo: "删除", photo_deleted: (name) => `已删除 ${name}。`, duplicate: (name) => `${name} 已经有了，没有重复添加。`,

  hold_to_record: "按住拍摄", recording: (k) => `正在拍摄：${n(k)} 张`, close_camera: "关闭摄像头",
  no_camera: (reason) => `无法使用摄像头：${reason}`,
  camera_needs_https: "浏览器只允许通过 HTTPS 或本机（localhost）打开的页面使用",

  test: "测试", test_hint: "把照片拖到这里，或粘贴、选择、用摄像头：这是什么？", clear: "移除照片",
  needs_class: "请先添加一个类别。", asking: "正在识别…", scores: "每个类别的概率",
  below_threshold: (label, score, least) => `最像 ${label}（${score}），低于阈值 ${least}。`,
  threshold_line: (least) => `低于 ${least}：都不是`, add_to: "不对或是新的？把这张照片加到", choose_class: "选择类别",
  why: (label) => `为什么是 ${label}？`, evidence_photo: (share) => `贡献 ${share} 的照片`,
  these_photos: (k) => `这 ${k} 张照片`, other_photos: (k) => `其他 ${n(k)} 张照片`, its_name: (name) => `名称“${name}”`,

  collection_hint: "没有标签的照片：全部按所选类别排序。照片在后台读取，只保留缩略图。",
  collection_empty: "把照片文件夹拖到这里：几千张也没问题。", csv: "CSV", csv_hint: "图库中每张照片的答案和所有类别的分数。",
  pending: (k) => `正在读取 ${n(k)} 张照片…`, unreadable: (k) => `${n(k)} 张照片无法读取：排在最后，并附有原因。`, unreadable_mark: "无法读取", unreadable_photo: "照片无法读取：",
  least_certain: "最不确定：请先标注这些", least_certain_hint: (label) => `是 ${label} 吗？为这些照片作答最有帮助。`,
  sorted_by: (label, k) => `最像 ${label} 的在前：${n(k)} 张照片`, keys_hint: "选中照片时的按键：Y 是，N 不是，方向键换下一张。",
  sorting_class: "排序类别", which_photos: "显示哪些照片", shown_open: "未标注", shown_labelled: "已标注", shown_all: "全部",
  yes: "是", not_this: "不是", yes_photo: (name, label) => `是：${name} 是 ${label}`, not_photo: (name, label) => `不是：${name} 不是 ${label}`,
  it_is: "它是…", take_back: "取消标签", labelled_as: (label) => `您的标注：${label}`, answered_as: (label, score) => `答案：${label}，${score}`,
  photo_described: (name, label, score) => `${name}：${label} ${score}`,

  report_empty: "请先添加照片：每张照片会被留出一次，当作新照片来识别。", report_waiting: "正在逐张留出…",
  accuracy: "对没见过的照片的正确率", interval: (low, high, k) => `在 ${low} 与 ${high} 之间（95 %），共 ${n(k)} 张照片，每张留出一次。`,
  not_left_out: (k) => `${n(k)} 张照片无法留出：同类中没有与之不同的照片。`,
  no_accuracy: "尚未测量：一个类别需要两张不同的照片。", right_of: (right, k) => `${n(k)} 张中 ${n(right)} 张`,
  next_steps: "下一步做什么", needs_photos: "这些类别需要更多照片：", enough_photos: "没有哪个类别特别缺照片。",
  confusion: "哪些容易混淆", confusion_hint: "行：照片的类别。列：留出时给出的答案。",
  suspicious: "可能标错的照片", suspicious_hint: "其他照片对它们有不同的看法。",
  looks_like: (is, looks, score) => `标为 ${is}（概率 ${score}），看起来像 ${looks}`, move_to_class: (label) => `移动到 ${label}`,
  duplicates: "几乎相同的照片", duplicates_hint: "两张中的第二张帮助不大。它们会一起被留出。", delete_second: "删除第二张", second_photo: "第二张照片",

  fine_tuning: "微调", fine_tune: "开始微调",
  fine_tuning_hint: "用全部照片训练一段时间，并测量是否有帮助，然后由您决定。微调结果不会学习新照片：照片或类别一有变化，项目就回到即时学习，不再使用它。",
  training: (epoch, epochs) => `第 ${n(epoch)} 轮，共 ${n(epochs)} 轮`, training_hint: "可以继续操作；此时的改动不会进入结果。",
  training_outdated: "此后照片或类别有变化：项目已回到即时学习。可重新微调来比较。",
  training_cancelled: "已取消，没有任何改变。", training_failed: "训练提前结束：", training_interrupted: "训练时服务被停止，请重新开始。",
  training_accepted: "现在由微调结果回答，直到照片或类别有变化。",
  before: "之前", after: "之后", with_interval: (share, low, high) => `${share}（${low}–${high}）`,
  verdict_better: (better, worse) => `微调有帮助：${n(better)} 张照片由错变对，${n(worse)} 张由对变错。`,
  verdict_worse: (better, worse) => `微调有害：${n(worse)} 张照片由对变错，${n(better)} 张由错变对。`,
  verdict_no_difference: (better, worse) => `没有明显差别：${n(better)} 张照片由错变对，${n(worse)} 张由对变错，偶然也会如此。`,
  compared_on: (k) => `对两者都没见过的 ${n(k)} 张照片的正确率和 95 % 区间：每张照片都在某次训练中被留出。`,
  use_fine_tuned: "使用微调结果", dismiss: "放弃", stop_using: "停止使用",

  projects: "项目", new_project: "新项目", open_file: "打开项目文件", open: "打开", opened: "已打开", no_projects: "还没有项目。",
  rename_project: (name) => `项目 ${name} 的名称`, save_project: (name) => `把 ${name} 下载为一个文件`, delete_project: (name) => `删除项目 ${name}`,
  delete_project_sure: (name) => `删除项目“${name}”及其全部照片？此操作无法撤销。`, imported: (name) => `已打开 ${name}。`,
  project_size: (classes, examples, collected) => `${n(classes)} 个类别，${n(examples)} 张照片，图库 ${n(collected)} 张`,

  use_empty: "请先添加一个类别。", take_along: "带走",
  export_project: "项目文件", export_project_hint: "全部类别和照片，可在这里或别处再次打开。",
  export_model: "模型文件夹", export_model_hint: "用于命令行和 Python：model.zip。",
  export_onnx: "ONNX", export_onnx_hint: "一个文件，可用于任何 ONNX Runtime，包括浏览器和手机。",
  snippet_shell: "命令行", snippet_sort: "把一个文件夹的照片分到各文件夹", snippet_python: "Python", snippet_curl: "curl，向运行中的服务提问",
};

export const TEXTS = { en: EN, zh: ZH };

/** The service answers in English: what its codes mean in other languages. */
export const PROBLEMS = {
  zh: {
    // of requests
    bad_request: "请求无法理解。", unauthorized: "需要令牌。", cross_site: "来自其他网站的请求被拒绝。", not_found: "没有找到，可能已被删除。",
    method_not_allowed: "不支持这种请求。", receive_timeout: "发送太慢，已中断；请重试。", conflict: "与已有的内容冲突。",
    body_too_large: "内容太大。", limit_reached: "已达到上限，请先删除一些。", too_many_images: "一次发送的照片太多。", unsupported_media_type: "不支持这种内容类型。",
    host_not_allowed: "不允许用这个主机名访问。", client_gone: "请求已中断。", internal_error: "服务内部出错，请查看它的日志。",
    busy: "服务正忙，请稍后重试。", database_unavailable: "数据库暂时无法使用，没有任何改变；请重试。", usage: "输入的值无效。",
    // of projects and photos
    bad_labels: "类别名称无效或太相似。", bad_vectors: "编码器无法读取这个名称。", unreadable_image: "照片无法读取。", image_too_large: "照片的像素太多。", nothing_readable: "没有可以读取的照片。",
    no_classes: "请先添加类别。", not_encoded: "照片还没有读取完，或无法读取。", too_many_pending: "等待读取的照片太多，请稍后重试。",
    nothing_to_undo: "没有可撤销的操作。", wrong_encoder: "项目由另一个编码器制作。", bad_project_file: "这不是项目文件，或文件已损坏。", cannot_export: "无法导出。",
    fine_tuning_runs: "已有一个微调正在进行，请等待或取消。", photos_changed: "照片或类别已有变化，请重新微调。",
    too_few_photos: "照片太少：至少两个类别需要各有两张不同的照片。",
  },
};

/** What was undone, as the service words it → in other languages. */
const UNDONE = {
  zh: [
    [/^added class (.*)$/s, (label) => `添加类别 ${label}`], [/^deleted class (.*)$/s, (label) => `删除类别 ${label}`],
    [/^renamed class (.*)$/s, (label) => `重命名类别 ${label}`], [/^enabled class (.*)$/s, (label) => `启用类别 ${label}`],
    [/^disabled class (.*)$/s, (label) => `停用类别 ${label}`], [/^added a photo to (.*)$/s, (label) => `添加照片到 ${label}`],
    [/^moved a photo to (.*)$/s, (label) => `移动照片到 ${label}`], [/^removed a photo from the collection$/, () => "从图库删除照片"],
    [/^removed a photo from (.*)$/s, (label) => `从 ${label} 删除照片`], [/^said that a photo is not (.*)$/s, (label) => `标为不是 ${label}`],
    [/^took the label of a photo back$/, () => "取消照片的标签"],
  ],
};

/** What was undone, in the language of the page. */
export function undoneText(what) {
  for (const [pattern, text] of UNDONE[state.language] ?? []) {
    const found = pattern.exec(what);
    if (found) return text(found[1]);
  }
  return what;
}

/** An error in the language of the page, as {text, detail}: `detail` are the service's own words where these are other. */
export function explained({ code, message }) {
  const text = PROBLEMS[state.language]?.[code];
  return text ? { text, detail: message } : { text: message };
}

/** The text of a key in the language of the page. */
export function t(key, ...about) {
  const text = TEXTS[state.language][key];
  return typeof text === "function" ? text(...about) : text;
}

/** Use a language from now on; without one, that of an earlier choice, else the browser's first that there is. */
export function chooseLanguage(code) {
  if (code) localStorage.setItem("language", code);
  const wished = [localStorage.getItem("language"), ...navigator.languages.map((tag) => tag.split("-")[0]), "en"];
  const language = wished.find((one) => one in LANGUAGES);
  document.documentElement.lang = language;
  update({ language });
}
