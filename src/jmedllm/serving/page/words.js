/* The words of the page. A word with {name} takes a value. */

const WORDS = {
  en: {
    other: "日本語", otherCode: "ja", newChat: "New chat", chats: "Chats", noChats: "No chats yet", here: "Chats stay in this browser", notKept: "Chats are not kept", menu: "Chats and menu", close: "Close",
    settings: "Settings", device: "Not a medical device. Check every answer.", deviceShort: "Not a medical device",
    hello: "What would you like to ask?", helloHint: "The model runs on this server. Nothing you write leaves it.",
    chat: "Chat", exam: "Exam", chatPlaceholder: "Write a question", examPlaceholder: "Paste a question with its choices", question: "Question", mode: "Mode",
    send: "Send", stop: "Stop", keys: "Ctrl+Enter sends, Esc stops", you: "You", model: "Model",
    copy: "Copy", copied: "Copied", regenerate: "Regenerate", edit: "Edit", cancelEdit: "Cancel editing", editing: "Editing your last question",
    thought: "Thought", thinking: "Thinking…", writing: "Writing…", waiting: "Waiting for the server…", finished: "The answer is complete.",
    stopped: "Stopped here.", length: "Cut at the limit of tokens: raise “Maximum tokens” in the settings.", interrupted: "Interrupted; this is what was written.",
    tokens: "{count} tokens", rate: "{count} tokens/s", seconds: "{count} s", contextOf: "{count} tokens of context",
    found: "{count} choices found. Correct them if needed.", foundNone: "No choices found. Add them here, or put each on a line of its own, such as “a. …”.",
    choice: "Text of choice {label}", addChoice: "Add a choice", removeChoice: "Remove choice {label}", findAgain: "Find again", select: "Choose", layout: "Answer",
    letter: "the label", text: "the text", plain: "the text, choices first", leftOut: "Left out: {text}", examNeeds: "Give at least two choices with a text.", tooMany: "{count} possible answers are too many: choose fewer, or remove choices.",
    chosen: "Chosen: ", uncalibrated: "Probabilities among these choices. They are not calibrated: 90 % does not mean right 9 times out of 10.", noShares: "The server gave no probabilities.",
    alone: "Asked by itself, without the chat above.",
    systemPrompt: "System prompt", systemHint: "Sent before each chat. Empty: none.", temperature: "Temperature", topP: "Top-p", seed: "Seed", maxTokens: "Maximum tokens", think: "Think before answering", byServer: "server",
    sampling: "Sampling", samplingHint: "Empty: the server’s value. Temperature 0 always picks the likeliest token.", noTemplate: "This model has no chat template: it continues your text, one question at a time.",
    appearance: "Appearance", auto: "As the system", light: "Light", dark: "Dark", theme: "Theme", languageLabel: "Language",
    history: "History", keep: "Keep chats in this browser", keepHint: "They are not sent anywhere. Whoever uses this browser profile can read them.", noStore: "This browser does not let the page keep chats.",
    exportJson: "Export all", importJson: "Import", eraseAll: "Erase all", exportOneJson: "Export as JSON", exportMarkdown: "Export as Markdown", rename: "Rename", remove: "Delete", more: "More about {title}",
    confirmErase: "Erase all {count} chats from this browser?", confirmRemove: "Delete “{title}”?", confirm: "Erase", cancel: "Cancel", save: "Save", title: "Title", imported: "{count} chats imported.", importFailed: "This is not a file of exported chats: choose one that this page has exported.", erased: "All chats are erased.",
    errorKey: "The key is no longer valid: open the address that the terminal shows, or enter the key.", enterKey: "Enter the key",
    errorStopped: "The server does not answer: start it again in the terminal, then retry.", errorCut: "The server stopped in the middle of this answer: start it again, then regenerate.", retry: "Retry",
    errorBusy: "The server cannot answer now: retry in {count} s. ({detail})", errorContext: "This chat is longer than the model’s context: start a new one. ({detail})", errorOther: "The server refused: {detail}",
    errorCopy: "This browser does not let the page copy: select the text and copy it.",
    errorStore: "The chat could not be kept in this browser (storage is full): export and erase old ones.", empty: "(empty answer)", untitled: "Untitled", print: "Print", loading: "Connecting to the server…",
    example1: "What are the early signs of sepsis?", example2: "Explain the difference between type 1 and type 2 diabetes.", exampleExam: "A deficiency of which vitamin causes scurvy?\na. Vitamin A\nb. Vitamin B1\nc. Vitamin C\nd. Vitamin D\ne. Vitamin K", exampleExamTitle: "A multiple-choice question with probabilities",
  },
  ja: {
    other: "English", otherCode: "en", newChat: "新しい会話", chats: "会話", noChats: "会話はまだありません", here: "会話はこのブラウザーだけに保存されます", notKept: "会話は保存されません", menu: "会話とメニュー", close: "閉じる",
    settings: "設定", device: "医療機器ではありません。回答は必ず確認してください。", deviceShort: "医療機器ではありません",
    hello: "何を知りたいですか？", helloHint: "モデルはこのサーバーで動作します。入力した内容が外部に送信されることはありません。",
    chat: "会話", exam: "試験問題", chatPlaceholder: "質問を入力", examPlaceholder: "問題文と選択肢を貼り付け", question: "質問", mode: "モード",
    send: "送信", stop: "停止", keys: "Ctrl+Enter で送信、Esc で停止", you: "あなた", model: "モデル",
    copy: "コピー", copied: "コピーしました", regenerate: "再生成", edit: "編集", cancelEdit: "編集をやめる", editing: "最後の質問を編集中",
    thought: "思考過程", thinking: "思考中…", writing: "回答中…", waiting: "サーバーの応答を待っています…", finished: "回答が完了しました。",
    stopped: "ここで停止しました。", length: "トークン数の上限で打ち切られました。設定の「最大トークン数」を増やしてください。", interrupted: "中断されました。ここまでの回答を表示しています。",
    tokens: "{count} トークン", rate: "{count} トークン/秒", seconds: "{count} 秒", contextOf: "コンテキスト {count} トークン",
    found: "選択肢を {count} 個検出しました。必要に応じて修正してください。", foundNone: "選択肢が見つかりません。ここに追加するか、「a. …」のように 1 行ずつ書いてください。",
    choice: "選択肢 {label} の文", addChoice: "選択肢を追加", removeChoice: "選択肢 {label} を削除", findAgain: "検出し直す", select: "選ぶ数", layout: "解答",
    letter: "記号", text: "選択肢の文", plain: "選択肢の文（選択肢が先）", leftOut: "除いた部分：{text}", examNeeds: "文のある選択肢を 2 つ以上指定してください。", tooMany: "解答の組み合わせが {count} 通りあり多すぎます。選ぶ数か選択肢を減らしてください。",
    chosen: "解答：", uncalibrated: "これらの選択肢の間での確率です。較正されていないため、90 % は「10 回中 9 回正しい」という意味ではありません。", noShares: "サーバーから確率が返されませんでした。",
    alone: "上の会話とは切り離して、この問題だけを質問しました。",
    systemPrompt: "システムプロンプト", systemHint: "各会話の最初に送られます。空欄の場合は送りません。", temperature: "温度", topP: "Top-p", seed: "シード", maxTokens: "最大トークン数", think: "回答の前に思考する", byServer: "サーバー",
    sampling: "サンプリング", samplingHint: "空欄の場合はサーバーの値を使います。温度 0 では常に最も確率の高いトークンを選びます。", noTemplate: "このモデルにはチャットテンプレートがありません。1 問ずつ、入力した文の続きを書きます。",
    appearance: "表示", auto: "システムに合わせる", light: "ライト", dark: "ダーク", theme: "テーマ", languageLabel: "言語",
    history: "履歴", keep: "会話をこのブラウザーに保存する", keepHint: "どこにも送信されません。このブラウザーのプロファイルを使う人は読むことができます。", noStore: "このブラウザーでは会話を保存できません。",
    exportJson: "すべて書き出す", importJson: "読み込む", eraseAll: "すべて消去", exportOneJson: "JSON で書き出す", exportMarkdown: "Markdown で書き出す", rename: "名前を変更", remove: "削除", more: "「{title}」のメニュー",
    confirmErase: "{count} 件の会話をすべてこのブラウザーから消去しますか？", confirmRemove: "「{title}」を削除しますか？", confirm: "消去", cancel: "キャンセル", save: "保存", title: "名前", imported: "{count} 件の会話を読み込みました。", importFailed: "書き出した会話のファイルではありません。このページで書き出したファイルを選んでください。", erased: "すべての会話を消去しました。",
    errorKey: "キーが無効になりました。端末に表示されたアドレスを開くか、キーを入力してください。", enterKey: "キーを入力",
    errorStopped: "サーバーが応答しません。端末でもう一度起動してから再試行してください。", errorCut: "回答の途中でサーバーが停止しました。もう一度起動してから再生成してください。", retry: "再試行",
    errorBusy: "サーバーは今は回答できません。{count} 秒後に再試行してください。（{detail}）", errorContext: "会話がモデルのコンテキストを超えました。新しい会話を始めてください。（{detail}）", errorOther: "サーバーが拒否しました：{detail}",
    errorCopy: "このブラウザーではコピーできません。文字列を選択してコピーしてください。",
    errorStore: "会話をこのブラウザーに保存できませんでした（容量不足）。古い会話を書き出してから消去してください。", empty: "（空の回答）", untitled: "無題", print: "印刷", loading: "サーバーに接続しています…",
    example1: "敗血症の初期徴候は何ですか？", example2: "1 型糖尿病と 2 型糖尿病の違いを説明してください。", exampleExam: "壊血病の原因となるのはどのビタミンの欠乏か。\na　ビタミンA\nb　ビタミンB1\nc　ビタミンC\nd　ビタミンD\ne　ビタミンK", exampleExamTitle: "確率つきの試験問題",
  },
};

let language = "en";

function word(key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

/* Returns the small line below an answer. */
function aboutLine({ about, exam }, word) {
  const perSecond = about.tokens > 1 && about.writing ? (about.tokens - 1) / about.writing : null; // after the first token, which waits for the prompt
  const rate = perSecond && word("rate", { count: perSecond.toFixed(perSecond < 10 ? 1 : 0) });
  const speed = exam ? [] : [about.tokens && word("tokens", { count: about.tokens }), rate]; // a choice is not written token by token
  return [about.model, about.fingerprint, about.seconds && word("seconds", { count: about.seconds.toFixed(1) }), ...speed, about.sampling].filter(Boolean).join(" · ");
}
