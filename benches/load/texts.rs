//! What people write: pairs of English and Chinese sentences where they are at hand, else lines of our own.

use std::path::Path;

/// Enough to be of every length and in both languages; used when no file is given, and said so.
const OWN: [&str; 16] = [
    "Hi, is anybody there?",
    "您好，请问今天几点关门？",
    "ok",
    "好的",
    "My order 20418 has not arrived yet, and the tracking page shows nothing since Monday.",
    "请问这款还有蓝色的吗？我看网页上写着缺货。",
    "Could you send me the invoice again? I cannot find it in my mail.",
    "可以改一下收货地址吗？我昨天填错了门牌号。",
    "Thanks a lot, that solved it!",
    "谢谢您的耐心解答！😊",
    "How long does a refund usually take if I paid by card, and do I have to do anything else?",
    "退款一般几个工作日到账？",
    "Is the clinic open on Saturdays?",
    "我想预约下周三下午的号。",
    "Please wait a moment, I am looking it up for you.",
    "请稍等，我帮您查一下，马上回复。",
];

#[derive(Debug)]
pub struct Texts {
    pub lines: Vec<String>,
    pub real: bool,
}

pub fn read(path: Option<&Path>) -> Texts {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/tatoeba-cmn-eng.tsv");
    let named = std::env::var_os("LODGE_TEXTS").map(std::path::PathBuf::from);
    let path = path.map(Path::to_owned).or(named).unwrap_or(beside);
    let pairs = std::fs::read_to_string(&path).unwrap_or_default();
    let lines: Vec<String> =
        pairs.lines().flat_map(|line| line.split('\t').take(2)).map(str::to_owned).collect();
    if lines.is_empty() {
        crate::say(format_args!("no sentences at hand; {} lines of our own are sent", OWN.len()));
        return Texts { lines: OWN.map(str::to_owned).to_vec(), real: false };
    }
    Texts { lines, real: true }
}
