//! Refusals: what the server will not do, as a number that programs obey and a sentence that a person reads.
//!
//! The thousands say what to do, so that an old client obeys a number it has never seen:
//! 1xxx try again later · 2xxx go on as a new device · 3xxx log in again · 4xxx never.
//! A number keeps its meaning for ever; the sentences may be bettered.

use std::borrow::Cow;

/// What a client does about a refusal, whether it knows the number or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Wait, then send the same again.
    Retry,
    /// Take a new device id (or reconnect with a newer generation) and send the outbox again.
    Anew,
    /// Get a new token, then come back.
    LogIn,
    /// Do not send this again.
    Never,
}

/// A refusal as it travels: in SETTLED for one draft, in REFUSED for the whole connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: RefusalCode,
    /// For a person, in English; a client that knows the number shows its own words instead.
    pub text: Cow<'static, str>,
    /// 0 where waiting does not help, or where the client's own back-off decides.
    pub retry_after_ms: u64,
}

impl Refusal {
    pub fn new(code: RefusalCode) -> Refusal {
        Refusal { code, text: Cow::Borrowed(code.english()), retry_after_ms: 0 }
    }

    pub fn after(code: RefusalCode, retry_after_ms: u64) -> Refusal {
        Refusal { retry_after_ms, ..Refusal::new(code) }
    }

    /// For a refusal that can say more than its number: which origin, which setting.
    pub fn because(code: RefusalCode, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, text: text.into(), retry_after_ms: 0 }
    }
}

/// One row of the table, for documents and generated files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub code: RefusalCode,
    pub number: u64,
    pub name: &'static str,
    pub english: &'static str,
    pub chinese: &'static str,
}

macro_rules! refusals {
    ($($number:literal $name:ident $english:literal $chinese:literal)*) => {
        /// The numbers. One that this build does not know keeps its value and is obeyed by its range.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RefusalCode {
            $(#[doc = $english] $name,)*
            /// A number from a newer build.
            Unknown(u64),
        }

        impl RefusalCode {
            pub const TABLE: &'static [Row] = &[$(Row {
                code: RefusalCode::$name,
                number: $number,
                name: stringify!($name),
                english: $english,
                chinese: $chinese,
            },)*];

            pub fn from_number(number: u64) -> RefusalCode {
                match number {
                    $($number => RefusalCode::$name,)*
                    other => RefusalCode::Unknown(other),
                }
            }

            pub fn number(self) -> u64 {
                match self {
                    $(RefusalCode::$name => $number,)*
                    RefusalCode::Unknown(number) => number,
                }
            }

            /// The sentence for a person, in English.
            pub fn english(self) -> &'static str {
                match self {
                    $(RefusalCode::$name => $english,)*
                    RefusalCode::Unknown(_) => "The server refused this.",
                }
            }

            /// The sentence for a person, in Chinese.
            pub fn chinese(self) -> &'static str {
                match self {
                    $(RefusalCode::$name => $chinese,)*
                    RefusalCode::Unknown(_) => "服务器拒绝了此操作。",
                }
            }
        }
    };
}

refusals! {
    1000 Busy "The server is busy. Your message is sent again by itself." "服务器繁忙，消息会自动重发。"
    1001 Full "The server's disk is full. Your message is sent again by itself." "服务器磁盘已满，消息会自动重发。"
    1002 Throttled "Too fast. Your message is sent again in a moment." "发送过快，消息稍后会自动重发。"
    1003 NotReady "The server is starting." "服务器正在启动。"
    1004 ReadOnly "The server takes no messages at the moment." "服务器目前为只读，暂不接收消息。"
    1005 CounterGap "A message before this one is still missing. Both are sent again in order." "前一条消息尚未送达，将按顺序重发。"
    2000 DeviceCloned "Another copy of this app uses the same device. Going on as a new one." "检测到同一设备的另一副本，将以新设备继续。"
    2001 Fenced "A newer connection of this device is in use." "此设备已有更新的连接。"
    2002 EpochChanged "The server's history was restored from a backup. Starting anew." "服务器历史已从备份恢复，正在重新同步。"
    2003 TooManyUnsettled "Too many messages wait for their answer." "等待确认的消息过多。"
    3000 TokenExpired "Your session has expired. Please sign in again." "登录已过期，请重新登录。"
    3001 TokenInvalid "Your session is not valid. Please sign in again." "登录凭证无效，请重新登录。"
    3002 SessionEnded "You were signed out. Please sign in again." "您已退出，请重新登录。"
    3003 Origin "This web page may not use this chat." "此网页无权使用该聊天。"
    4000 Malformed "The message could not be understood." "消息格式无法识别。"
    4001 TextTooLong "The text is too long." "文本过长。"
    4002 TextEmpty "There is no text in it." "文本为空。"
    4003 UnknownConversation "There is no such conversation." "会话不存在。"
    4004 NotAllowed "You may not do this." "您无权执行此操作。"
    4005 UploadUnknown "The file is no longer here. Please choose it again." "文件已失效，请重新选择。"
    4006 UnknownKind "The server does not know this kind of message." "服务器不支持此类消息。"
    4007 TooLarge "This is too large." "内容过大。"
    4008 AlreadySettled "This message was answered before." "此消息此前已有结果。"
    4010 Protocol "The app and the server do not understand each other. Please update." "应用与服务器版本不兼容，请更新。"
    4011 NoSuchSite "There is no such site." "站点不存在。"
    4012 TooMany "There are too many of these." "数量超出上限。"
    4013 UnsupportedType "Files of this type are not taken." "不支持此类型的文件。"
    4014 Forgotten "This message was refused before; the reason is no longer kept." "此消息此前已被拒绝，原因已不再保存。"
}

impl RefusalCode {
    pub fn act(self) -> Act {
        match self.number() {
            1000..=1999 => Act::Retry,
            2000..=2999 => Act::Anew,
            3000..=3999 => Act::LogIn,
            _ => Act::Never,
        }
    }

    /// The WebSocket close code that goes with REFUSED.
    pub fn close_code(self) -> u16 {
        match self {
            RefusalCode::Throttled => 4429,
            RefusalCode::TooLarge => 1009,
            RefusalCode::Malformed | RefusalCode::Protocol => 1002,
            _ => match self.act() {
                Act::Retry => 1013,
                Act::Anew => 4409,
                Act::LogIn => 4401,
                Act::Never => 1008,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_stands_once_and_finds_its_name() {
        for (index, row) in RefusalCode::TABLE.iter().enumerate() {
            assert_eq!(RefusalCode::from_number(row.number), row.code);
            assert_eq!(row.code.number(), row.number);
            let following = RefusalCode::TABLE.get(index + 1);
            assert!(
                following.is_none_or(|next| next.number > row.number),
                "{} is out of order",
                row.name
            );
        }
    }

    #[test]
    fn an_unknown_number_is_obeyed_by_its_range() {
        for (number, act) in [
            (1999, Act::Retry),
            (2999, Act::Anew),
            (3999, Act::LogIn),
            (4999, Act::Never),
            (7, Act::Never),
            (9000, Act::Never),
        ] {
            let code = RefusalCode::from_number(number);
            assert_eq!(code, RefusalCode::Unknown(number));
            assert_eq!(code.act(), act, "{number}");
        }
    }
}
