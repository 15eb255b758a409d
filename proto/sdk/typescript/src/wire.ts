// Generated from proto/src by `cargo run -p lodge-proto --example generate`. Do not edit.
// Ids, epochs and bytes are base64url text without padding, in both encodings.

export const VERSION = 1;
export const SUBPROTOCOL_BINARY = "lodge.v1";
export const SUBPROTOCOL_JSON = "lodge.v1.json";

export const LIMITS = {
  /** bytes of one batch */
  batch_bytes_max: 65536,
  /** frames of one batch that goes up */
  batch_frames_max: 512,
  /** bytes of a JSON batch that goes down */
  json_down_bytes_max: 262144,
  /** UTF-8 bytes of a text or a caption */
  text_bytes_max: 16384,
  /** UTF-8 bytes of a name */
  name_bytes_max: 255,
  /** bytes of a token, a ticket or a page's address */
  token_bytes_max: 4096,
  /** marks in one frame */
  marks_max: 256,
  /** drafts of a device that wait for their answer */
  unsettled_max: 64,
  /** entries of one page */
  page_entries_max: 100,
  /** conversations, and persons, with a handle on a connection */
  handles_max: 4096,
  /** objects and lists inside each other in the twin */
  json_depth_max: 8,
  /** keys of one object in the twin */
  json_keys_max: 64,
} as const;

export const OPCODES = {
  up: {
    hello: 0x01,
    ping: 0x04,
    pong: 0x05,
    bye: 0x07,
    draft: 0x10,
    typing: 0x20,
    mark: 0x22,
    page: 0x30,
    gap: 0x33,
  },
  down: {
    hello_ok: 0x02,
    refused: 0x03,
    ping: 0x04,
    pong: 0x05,
    goaway: 0x06,
    throttle: 0x08,
    settled: 0x11,
    entry: 0x12,
    conversation: 0x13,
    person: 0x14,
    typing: 0x20,
    presence: 0x21,
    mark: 0x22,
    page_end: 0x31,
    synced: 0x32,
    resync: 0x34,
  },
} as const;

export const REFUSAL = {
  Busy: 1000,
  Full: 1001,
  Throttled: 1002,
  NotReady: 1003,
  ReadOnly: 1004,
  CounterGap: 1005,
  DeviceCloned: 2000,
  Fenced: 2001,
  EpochChanged: 2002,
  TooManyUnsettled: 2003,
  TokenExpired: 3000,
  TokenInvalid: 3001,
  SessionEnded: 3002,
  Origin: 3003,
  Malformed: 4000,
  TextTooLong: 4001,
  TextEmpty: 4002,
  UnknownConversation: 4003,
  NotAllowed: 4004,
  UploadUnknown: 4005,
  UnknownKind: 4006,
  TooLarge: 4007,
  AlreadySettled: 4008,
  Protocol: 4010,
  NoSuchSite: 4011,
  TooMany: 4012,
  UnsupportedType: 4013,
  Forgotten: 4014,
} as const;

export const REFUSAL_TEXT_EN: Readonly<Record<number, string>> = {
  1000: "The server is busy. Your message is sent again by itself.",
  1001: "The server's disk is full. Your message is sent again by itself.",
  1002: "Too fast. Your message is sent again in a moment.",
  1003: "The server is starting.",
  1004: "The server takes no messages at the moment.",
  1005: "A message before this one is still missing. Both are sent again in order.",
  2000: "Another copy of this app uses the same device. Going on as a new one.",
  2001: "A newer connection of this device is in use.",
  2002: "The server's history was restored from a backup. Starting anew.",
  2003: "Too many messages wait for their answer.",
  3000: "Your session has expired. Please sign in again.",
  3001: "Your session is not valid. Please sign in again.",
  3002: "You were signed out. Please sign in again.",
  3003: "This web page may not use this chat.",
  4000: "The message could not be understood.",
  4001: "The text is too long.",
  4002: "There is no text in it.",
  4003: "There is no such conversation.",
  4004: "You may not do this.",
  4005: "The file is no longer here. Please choose it again.",
  4006: "The server does not know this kind of message.",
  4007: "This is too large.",
  4008: "This message was answered before.",
  4010: "The app and the server do not understand each other. Please update.",
  4011: "There is no such site.",
  4012: "There are too many of these.",
  4013: "Files of this type are not taken.",
  4014: "This message was refused before; the reason is no longer kept.",
};

export const REFUSAL_TEXT_ZH: Readonly<Record<number, string>> = {
  1000: "服务器繁忙，消息会自动重发。",
  1001: "服务器磁盘已满，消息会自动重发。",
  1002: "发送过快，消息稍后会自动重发。",
  1003: "服务器正在启动。",
  1004: "服务器目前为只读，暂不接收消息。",
  1005: "前一条消息尚未送达，将按顺序重发。",
  2000: "检测到同一设备的另一副本，将以新设备继续。",
  2001: "此设备已有更新的连接。",
  2002: "服务器历史已从备份恢复，正在重新同步。",
  2003: "等待确认的消息过多。",
  3000: "登录已过期，请重新登录。",
  3001: "登录凭证无效，请重新登录。",
  3002: "您已退出，请重新登录。",
  3003: "此网页无权使用该聊天。",
  4000: "消息格式无法识别。",
  4001: "文本过长。",
  4002: "文本为空。",
  4003: "会话不存在。",
  4004: "您无权执行此操作。",
  4005: "文件已失效，请重新选择。",
  4006: "服务器不支持此类消息。",
  4007: "内容过大。",
  4008: "此消息此前已有结果。",
  4010: "应用与服务器版本不兼容，请更新。",
  4011: "站点不存在。",
  4012: "数量超出上限。",
  4013: "不支持此类型的文件。",
  4014: "此消息此前已被拒绝，原因已不再保存。",
};

/** How far this device has got in a conversation, said again in HELLO because marks are never queued. */
export interface OwnMark {
  conversation: string | number;
  /** the highest Seq of the public lane that the device holds */
  delivered: number;
  /** the highest Seq of the public lane that was on a screen */
  read: number;
}

/** The first frame of a connection, once. */
export interface UpHello {
  op: "hello";
  /** 1 */
  version: number;
  /** capability bits, none yet */
  caps: number;
  device: string;
  /** rises with every connection of a device; lower ones are fenced */
  generation: number;
  /** of the history that the cursor belongs to, 0 = none */
  epoch: string;
  /** the Position of the last SYNCED, 0 = none; what heads alone told of is not held until it was paged */
  cursor: number;
  /** the highest counter that this device has allotted */
  last_counter: number;
  /** below this counter the device holds every answer */
  settled: number;
  /** "" = the connection is already who it is */
  token: string;
  marks: OwnMark[];
  /** address of the page that the visitor is on, without what stands behind its # */
  page?: string;
}

/** Answered by PONG at once. */
export interface UpPing {
  op: "ping";
  nonce: number;
}

/** The answer to PING. */
export interface UpPong {
  op: "pong";
  nonce: number;
}

/** The client goes; push may take over at once. */
export interface UpBye {
  op: "bye";
  /** 1 = into the background, 2 = closing */
  reason: number;
}

export type Lane = "public" | "staff";
export const LANE = { public: 1, staff: 2 } as const;

/** What a draft asks for. */
export type DraftBody =
  /** A message of plain text. */
  | {
      kind: "text";
      /** 1 to 16,384 bytes */
      text: string;
    }
  /** A message with a file that was uploaded before. */
  | {
      kind: "file";
      /** the ticket that the upload returned */
      upload: string;
      /** the name of the file as the author knows it */
      name: string;
      /** may be empty */
      caption: string;
    }
  /** Ends the conversation. */
  | {
      kind: "close";
    }
  /** A kind from a newer build, kept as it came. */
  | { kind: number; bytes: string };
export const DRAFT_BODY = {
  text: 1,
  file: 2,
  close: 3,
} as const;

/** Asks for an entry; answered by SETTLED. */
export interface UpDraft {
  op: "draft";
  /** of this device, from 1 */
  counter: number;
  /** as in HELLO */
  settled: number;
  conversation: string | number;
  lane: Lane;
  body: DraftBody;
}

/** Latest wins, never kept. */
export interface UpTyping {
  op: "typing";
  conversation: string | number;
  on: boolean;
}

/** Latest wins; at most once a second and conversation. */
export interface UpMark {
  op: "mark";
  conversation: string | number;
  delivered: number;
  read: number;
}

/** Asks for older entries; answered by ENTRY frames and PAGE_END. */
export interface UpPage {
  op: "page";
  /** returned in PAGE_END */
  request: number;
  conversation: string | number;
  lane: Lane;
  /** entries below this Seq, 0 = the newest */
  before: number;
  /** 1 to 100 */
  limit: number;
}

/** Asks for a lane again, from the entry after `have` on. */
export interface UpGap {
  op: "gap";
  conversation: string | number;
  lane: Lane;
  have: number;
}

export type Up =
  | UpHello
  | UpPing
  | UpPong
  | UpBye
  | UpDraft
  | UpTyping
  | UpMark
  | UpPage
  | UpGap;

/** The connection works. */
export interface DownHelloOk {
  op: "hello_ok";
  /** 1 */
  version: number;
  /** capability bits, none yet */
  caps: number;
  epoch: string;
  /** who the client is; its PERSON comes before this frame */
  person: number;
  /** the highest counter of this device that was answered */
  counter: number;
  /** the server is heard from at least this often */
  heartbeat_ms: number;
  text_max: number;
  batch_max: number;
  upload_max: number;
  unsettled_max: number;
  now_ms: number;
  /** the Position where the durable history ended */
  watermark: number;
}

/** The connection closes after this. */
export interface DownRefused {
  op: "refused";
  code: number;
  text: string;
  retry_after_ms: number;
}

/** Answered by PONG at once. */
export interface DownPing {
  op: "ping";
  nonce: number;
}

/** The answer to PING. */
export interface DownPong {
  op: "pong";
  nonce: number;
}

/** Connect again after the delay; this connection lives until then. */
export interface DownGoAway {
  op: "goaway";
  /** 1 = restart, 2 = upgrade, 3 = this connection has used its handles up */
  reason: number;
  delay_ms: number;
}

/** Send nothing for a while. */
export interface DownThrottle {
  op: "throttle";
  after_ms: number;
}

/** The answer to a draft. */
export type Outcome =
  /** It is durable and has its place. */
  | {
      kind: "accepted";
      conversation: number;
      lane: Lane;
      seq: number;
      position: number;
      time_ms: number;
    }
  /** It will never be an entry under this counter, unless the code says to try again. */
  | {
      kind: "refused";
      code: number;
      text: string;
      retry_after_ms: number;
    };
export const OUTCOME = {
  accepted: 0,
  refused: 1,
} as const;

/** The answer to one draft, once it is durable. */
export interface DownSettled {
  op: "settled";
  counter: number;
  outcome: Outcome;
}

/** What an entry says happened. */
export type EntryBody =
  /** A message of plain text. */
  | {
      kind: "text";
      text: string;
    }
  /** A message with a file, fetched over HTTP by conversation, lane and Seq. */
  | {
      kind: "file";
      name: string;
      /** what the server found in the bytes, not what the author said */
      mime: string;
      size: number;
      /** pixels, 0 = unknown */
      width: number;
      /** pixels, 0 = unknown */
      height: number;
      caption: string;
    }
  /** The conversation was ended. */
  | {
      kind: "closed";
    }
  /** The conversation began. */
  | {
      kind: "opened";
      visitor: number;
      /** address of the page that the visitor was on, "" = unknown */
      page: string;
    }
  /** An agent has it now; staff lane. */
  | {
      kind: "assigned";
      /** 0 = nobody */
      agent: number;
      /** the rule that chose */
      why: string;
    }
  /** An agent came in; public lane. */
  | {
      kind: "joined";
      agent: number;
    }
  /** A closed conversation goes on. */
  | {
      kind: "reopened";
    }
  /** A kind from a newer build, kept as it came. */
  | { kind: number; bytes: string };
export const ENTRY_BODY = {
  text: 1,
  file: 2,
  closed: 3,
  opened: 16,
  assigned: 17,
  joined: 18,
  reopened: 19,
} as const;

/** A durable fact in its place. */
export interface DownEntry {
  op: "entry";
  conversation: number;
  lane: Lane;
  seq: number;
  position: number;
  time_ms: number;
  author: number;
  body: EntryBody;
}

export type ConversationState = "open" | "closed";
export const CONVERSATION_STATE = { open: 1, closed: 2 } as const;

/** How far a member has got in a conversation. */
export interface MemberMark {
  person: number;
  delivered: number;
  read: number;
}

/** Gives a conversation its handle, and says how it stands. */
export interface DownConversation {
  op: "conversation";
  handle: number;
  id: string;
  /** AppID */
  site: string;
  visitor: number;
  /** 0 = nobody */
  assignee: number;
  state: ConversationState;
  /** the highest Seq of the public lane */
  public_head: number;
  /** the highest Seq of the staff lane; 0 for visitors */
  staff_head: number;
  /** when the newest entry of the public lane came */
  public_time_ms: number;
  marks: MemberMark[];
}

export type PersonKind = "visitor" | "agent" | "bot" | "system";
export const PERSON_KIND = { visitor: 1, agent: 2, bot: 3, system: 4 } as const;

/** Gives a person their handle. */
export interface DownPerson {
  op: "person";
  handle: number;
  id: string;
  kind: PersonKind;
  name: string;
  online: boolean;
}

/** Somebody else types, or stopped. */
export interface DownTyping {
  op: "typing";
  conversation: number;
  person: number;
  on: boolean;
}

/** Somebody came or went. */
export interface DownPresence {
  op: "presence";
  person: number;
  online: boolean;
}

/** Somebody else received or read. */
export interface DownMark {
  op: "mark";
  conversation: number;
  person: number;
  delivered: number;
  read: number;
}

/** The page is complete; its ENTRY frames came before. */
export interface DownPageEnd {
  op: "page_end";
  request: number;
  /** 0 = there is no such conversation */
  conversation: number;
  lane: Lane;
  /** the lowest Seq that was sent, 0 = none */
  first: number;
  /** older entries exist */
  more: boolean;
}

/** Everything below the cursor was delivered; kept in one step with the entries. */
export interface DownSynced {
  op: "synced";
  cursor: number;
}

/** Too much was missed: CONVERSATION heads follow, history is paged. */
export interface DownResync {
  op: "resync";
  /** 1 = too far behind, 2 = another epoch */
  reason: number;
}

export type Down =
  | DownHelloOk
  | DownRefused
  | DownPing
  | DownPong
  | DownGoAway
  | DownThrottle
  | DownSettled
  | DownEntry
  | DownConversation
  | DownPerson
  | DownTyping
  | DownPresence
  | DownMark
  | DownPageEnd
  | DownSynced
  | DownResync;
