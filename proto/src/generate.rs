//! The files that are made from the description: `protocol.json` for whoever writes an SDK, the types of
//! the TypeScript SDK, and the tables of the README. Pure text; a test compares them with what is committed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::describe::{Field, Frame, Record, Shape, Union};
use crate::frame::{Down, Up};
use crate::limits;
use crate::refusal::{Act, RefusalCode};

const TABLES_BEGIN: &str = "<!-- generated: begin -->";
const TABLES_END: &str = "<!-- generated: end -->";
const DIRECTIONS: [(&str, &[Frame]); 2] = [("Up", Up::FRAMES), ("Down", Down::FRAMES)];

/// `sdk/typescript/src/wire.ts`: types, numbers and texts, without behaviour.
pub fn typescript() -> String {
    let mut out = String::from(
        "// Generated from proto/src by `cargo run -p lodge-proto --example generate`. Do not edit.\n\
         // Ids, epochs and bytes are base64url text without padding, in both encodings.\n\n",
    );
    line(&mut out, format_args!("export const VERSION = {};", crate::VERSION));
    line(
        &mut out,
        format_args!("export const SUBPROTOCOL_BINARY = \"{}\";", crate::SUBPROTOCOL_BINARY),
    );
    line(
        &mut out,
        format_args!("export const SUBPROTOCOL_JSON = \"{}\";", crate::SUBPROTOCOL_JSON),
    );
    out.push_str("\nexport const LIMITS = {\n");
    for (name, value, words) in limits::TABLE {
        line(&mut out, format_args!("  /** {words} */\n  {name}: {value},"));
    }
    out.push_str("} as const;\n\nexport const OPCODES = {\n");
    for (direction, frames) in DIRECTIONS {
        line(&mut out, format_args!("  {}: {{", direction.to_lowercase()));
        for frame in frames {
            line(&mut out, format_args!("    {}: 0x{:02x},", frame.name, frame.opcode));
        }
        out.push_str("  },\n");
    }
    out.push_str("} as const;\n\nexport const REFUSAL = {\n");
    for row in RefusalCode::TABLE {
        line(&mut out, format_args!("  {}: {},", row.name, row.number));
    }
    out.push_str("} as const;\n");
    for (language, chinese) in [("en", false), ("zh", true)] {
        line(
            &mut out,
            format_args!(
                "\nexport const REFUSAL_TEXT_{}: Readonly<Record<number, string>> = {{",
                language.to_uppercase()
            ),
        );
        for row in RefusalCode::TABLE {
            let text = if chinese { row.chinese } else { row.english };
            line(&mut out, format_args!("  {}: {text:?},", row.number));
        }
        out.push_str("};\n");
    }
    let mut named = Named::default();
    for (direction, frames) in DIRECTIONS {
        for frame in frames {
            if let Shape::Record(record) = frame.body {
                record.fields.iter().for_each(|field| named.typescript(field.shape));
                doc(&mut named.text, "", record.words);
                line(
                    &mut named.text,
                    format_args!("export interface {direction}{} {{", record.name),
                );
                line(&mut named.text, format_args!("  op: \"{}\";", frame.name));
                members(&mut named.text, "  ", record.fields);
                named.text.push_str("}\n\n");
            }
        }
        line(&mut named.text, format_args!("export type {direction} ="));
        let names: Vec<String> = frames
            .iter()
            .map(|frame| format!("  | {direction}{}", record_of(frame).name))
            .collect();
        line(&mut named.text, format_args!("{};\n", names.join("\n")));
    }
    out.push('\n');
    out.push_str(named.text.trim_end());
    out.push('\n');
    out
}

/// `protocol.json`: the whole description, one frame a line.
pub fn protocol_json() -> String {
    let mut out = String::from("{\n");
    line(&mut out, format_args!("\"version\": {},", crate::VERSION));
    line(
        &mut out,
        format_args!(
            "\"subprotocols\": {{\"binary\": \"{}\", \"json\": \"{}\"}},",
            crate::SUBPROTOCOL_BINARY,
            crate::SUBPROTOCOL_JSON
        ),
    );
    list(
        &mut out,
        "limits",
        limits::TABLE.iter().map(|(name, value, words)| {
            format!("{{\"name\": \"{name}\", \"value\": {value}, \"words\": {words:?}}}")
        }),
    );
    list(
        &mut out,
        "refusals",
        RefusalCode::TABLE.iter().map(|row| {
            format!(
                "{{\"number\": {}, \"name\": \"{}\", \"act\": \"{}\", \"en\": {:?}, \"zh\": {:?}}}",
                row.number,
                row.name,
                act(row.code),
                row.english,
                row.chinese
            )
        }),
    );
    let mut named = Named::default();
    for (direction, frames) in DIRECTIONS {
        let rows: Vec<String> = frames.iter().map(|frame| {
            let record = record_of(frame);
            record.fields.iter().for_each(|field| named.json(field.shape));
            format!("{{\"opcode\": {}, \"op\": \"{}\", \"name\": \"{}\", \"words\": {:?}, \"fields\": {}}}", frame.opcode, frame.name, record.name, record.words.trim(), fields(record.fields))
        }).collect();
        list(&mut out, &direction.to_lowercase(), rows);
    }
    list(&mut out, "types", named.rows);
    out.truncate(out.trim_end_matches([',', '\n']).len());
    out.push_str("\n}\n");
    out
}

/// The tables of the README, between its two markers.
pub fn tables() -> String {
    let mut out = String::new();
    for (direction, frames) in DIRECTIONS {
        line(&mut out, format_args!("### {direction}\n\n| opcode | op | body |\n|---|---|---|"));
        for frame in frames {
            line(
                &mut out,
                format_args!(
                    "| 0x{:02x} | {} | {} |",
                    frame.opcode,
                    frame.name,
                    table_fields(record_of(frame).fields)
                ),
            );
        }
        out.push('\n');
    }
    let mut named = Named::default();
    for (_, frames) in DIRECTIONS {
        frames
            .iter()
            .flat_map(|frame| record_of(frame).fields)
            .for_each(|field| named.table(field.shape));
    }
    out.push_str(&named.text);
    out.push_str(
        "### Refusals\n\n| number | name | what a client does | text |\n|---|---|---|---|\n",
    );
    for row in RefusalCode::TABLE {
        line(
            &mut out,
            format_args!("| {} | {} | {} | {} |", row.number, row.name, act(row.code), row.english),
        );
    }
    out.push_str("\n### Limits\n\n| limit | value | of |\n|---|---|---|\n");
    for (name, value, words) in limits::TABLE {
        line(&mut out, format_args!("| `{name}` | {value} | {words} |"));
    }
    out
}

/// A README with its tables renewed.
pub fn readme(readme: &str) -> String {
    let (before, rest) = readme.split_once(TABLES_BEGIN).unwrap_or((readme, ""));
    let after = rest.split_once(TABLES_END).map_or("\n", |(_, after)| after);
    format!("{before}{TABLES_BEGIN}\n{}{TABLES_END}{after}", tables())
}

/// Types that fields name, each written once, before the first frame that needs it.
#[derive(Default)]
struct Named {
    seen: BTreeSet<&'static str>,
    text: String,
    rows: Vec<String>,
}

impl Named {
    fn typescript(&mut self, shape: Shape) {
        match shape {
            Shape::List(element) => self.typescript(*element),
            Shape::Record(record) if self.seen.insert(record.name) => {
                doc(&mut self.text, "", record.words);
                line(&mut self.text, format_args!("export interface {} {{", record.name));
                members(&mut self.text, "  ", record.fields);
                self.text.push_str("}\n\n");
            }
            Shape::Choice(choice) if self.seen.insert(choice.name) => {
                let options: Vec<String> =
                    choice.options.iter().map(|(_, name)| format!("{name:?}")).collect();
                line(
                    &mut self.text,
                    format_args!("export type {} = {};", choice.name, options.join(" | ")),
                );
                let numbers: Vec<String> = choice
                    .options
                    .iter()
                    .map(|(number, name)| format!("{name}: {number}"))
                    .collect();
                line(
                    &mut self.text,
                    format_args!(
                        "export const {} = {{ {} }} as const;\n",
                        constant(choice.name),
                        numbers.join(", ")
                    ),
                );
            }
            Shape::Union(union) if self.seen.insert(union.name) => {
                union
                    .kinds
                    .iter()
                    .flat_map(|kind| kind.fields)
                    .for_each(|field| self.typescript(field.shape));
                self.typescript_union(union);
            }
            _ => {}
        }
    }

    fn typescript_union(&mut self, union: &Union) {
        doc(&mut self.text, "", union.words);
        line(&mut self.text, format_args!("export type {} =", union.name));
        for kind in union.kinds {
            doc(&mut self.text, "  ", kind.words);
            line(&mut self.text, format_args!("  | {{\n      kind: \"{}\";", kind.name));
            members(&mut self.text, "      ", kind.fields);
            self.text.push_str("    }\n");
        }
        if union.open {
            self.text.push_str("  /** A kind from a newer build, kept as it came. */\n  | { kind: number; bytes: string }\n");
        }
        self.text.truncate(self.text.trim_end().len());
        self.text.push_str(";\n");
        let numbers: Vec<String> =
            union.kinds.iter().map(|kind| format!("  {}: {},\n", kind.name, kind.number)).collect();
        line(
            &mut self.text,
            format_args!(
                "export const {} = {{\n{}}} as const;\n",
                constant(union.name),
                numbers.concat()
            ),
        );
    }

    fn json(&mut self, shape: Shape) {
        match shape {
            Shape::List(element) => self.json(*element),
            Shape::Record(record) if self.seen.insert(record.name) => {
                record.fields.iter().for_each(|field| self.json(field.shape));
                self.rows.push(format!(
                    "{{\"name\": \"{}\", \"is\": \"record\", \"fields\": {}}}",
                    record.name,
                    fields(record.fields)
                ));
            }
            Shape::Choice(choice) if self.seen.insert(choice.name) => {
                let options: Vec<String> = choice
                    .options
                    .iter()
                    .map(|(number, name)| format!("{{\"number\": {number}, \"name\": {name:?}}}"))
                    .collect();
                self.rows.push(format!(
                    "{{\"name\": \"{}\", \"is\": \"choice\", \"options\": [{}]}}",
                    choice.name,
                    options.join(", ")
                ));
            }
            Shape::Union(union) if self.seen.insert(union.name) => {
                union
                    .kinds
                    .iter()
                    .flat_map(|kind| kind.fields)
                    .for_each(|field| self.json(field.shape));
                let kinds: Vec<String> = union
                    .kinds
                    .iter()
                    .map(|kind| {
                        format!(
                            "{{\"number\": {}, \"name\": \"{}\", \"words\": {:?}, \"fields\": {}}}",
                            kind.number,
                            kind.name,
                            kind.words.trim(),
                            fields(kind.fields)
                        )
                    })
                    .collect();
                self.rows.push(format!(
                    "{{\"name\": \"{}\", \"is\": \"union\", \"open\": {}, \"kinds\": [{}]}}",
                    union.name,
                    union.open,
                    kinds.join(", ")
                ));
            }
            _ => {}
        }
    }

    fn table(&mut self, shape: Shape) {
        match shape {
            Shape::List(element) => self.table(*element),
            Shape::Record(record) if self.seen.insert(record.name) => {
                line(
                    &mut self.text,
                    format_args!("**{}**: {}\n", record.name, table_fields(record.fields)),
                );
            }
            Shape::Choice(choice) if self.seen.insert(choice.name) => {
                let options: Vec<String> = choice
                    .options
                    .iter()
                    .map(|(number, name)| format!("{number} {name}"))
                    .collect();
                line(
                    &mut self.text,
                    format_args!("**{}**, one byte: {}\n", choice.name, options.join(" · ")),
                );
            }
            Shape::Union(union) if self.seen.insert(union.name) => {
                line(
                    &mut self.text,
                    format_args!(
                        "**{}**: one byte, then\n\n| kind | name | fields |\n|---|---|---|",
                        union.name
                    ),
                );
                for kind in union.kinds {
                    line(
                        &mut self.text,
                        format_args!(
                            "| {} | {} | {} |",
                            kind.number,
                            kind.name,
                            table_fields(kind.fields)
                        ),
                    );
                }
                if union.open {
                    self.text.push_str("| others | | kept as they came |\n");
                }
                self.text.push('\n');
                union
                    .kinds
                    .iter()
                    .flat_map(|kind| kind.fields)
                    .for_each(|field| self.table(field.shape));
            }
            _ => {}
        }
    }
}

fn record_of(frame: &Frame) -> &'static Record {
    match frame.body {
        Shape::Record(record) => record,
        _ => &Record { name: "", words: "", fields: &[] },
    }
}

fn members(out: &mut String, indent: &str, fields: &[Field]) {
    for field in fields {
        doc(out, indent, field.words);
        let absent = if matches!(field.shape, Shape::Grown) { "?" } else { "" };
        let shape = typescript_type(field.shape);
        line(out, format_args!("{indent}{}{absent}: {shape};", field.name));
    }
}

fn typescript_type(shape: Shape) -> String {
    match shape {
        Shape::Byte
        | Shape::Varint
        | Shape::ConversationHandle
        | Shape::PersonHandle
        | Shape::RefusalCode => "number".into(),
        Shape::Bool => "boolean".into(),
        Shape::Text | Shape::Grown | Shape::Bytes(_) | Shape::Remainder => "string".into(),
        Shape::Ref => "string | number".into(),
        Shape::List(element) => format!("{}[]", typescript_type(*element)),
        Shape::Record(record) => record.name.into(),
        Shape::Choice(choice) => choice.name.into(),
        Shape::Union(union) => union.name.into(),
    }
}

fn fields(fields: &[Field]) -> String {
    let rows: Vec<String> = fields
        .iter()
        .map(|field| {
            format!(
                "{{\"name\": \"{}\", \"type\": \"{}\", \"words\": {:?}}}",
                field.name,
                type_name(field.shape),
                field.words.trim()
            )
        })
        .collect();
    format!("[{}]", rows.join(", "))
}

fn table_fields(fields: &[Field]) -> String {
    let cells: Vec<String> = fields
        .iter()
        .map(|field| {
            let words = field.words.trim();
            let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
            format!("{} {}{words}", field.name, type_name(field.shape))
        })
        .collect();
    if cells.is_empty() { "–".into() } else { cells.join(" · ") }
}

fn type_name(shape: Shape) -> String {
    match shape {
        Shape::Byte => "byte".into(),
        Shape::Bool => "bool".into(),
        Shape::Varint => "varint".into(),
        Shape::Text => "text".into(),
        Shape::Grown => "text?".into(),
        Shape::Bytes(length) => format!("bytes{length}"),
        Shape::Ref => "ref".into(),
        Shape::ConversationHandle => "conversation".into(),
        Shape::PersonHandle => "person".into(),
        Shape::RefusalCode => "refusal".into(),
        Shape::Remainder => "remainder".into(),
        Shape::List(element) => format!("list of {}", type_name(*element)),
        Shape::Record(record) => record.name.into(),
        Shape::Choice(choice) => choice.name.into(),
        Shape::Union(union) => union.name.into(),
    }
}

fn act(code: RefusalCode) -> &'static str {
    match code.act() {
        Act::Retry => "retry",
        Act::Anew => "anew",
        Act::LogIn => "log in",
        Act::Never => "never",
    }
}

/// `DraftBody` -> `DRAFT_BODY`.
fn constant(name: &str) -> String {
    let mut out = String::new();
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_uppercase() {
            out.push('_');
        }
        out.extend(letter.to_uppercase());
    }
    out
}

fn doc(out: &mut String, indent: &str, words: &str) {
    if !words.trim().is_empty() {
        line(out, format_args!("{indent}/** {} */", words.trim()));
    }
}

fn list(out: &mut String, name: &str, rows: impl IntoIterator<Item = String>) {
    let rows: Vec<String> = rows.into_iter().map(|row| format!("  {row}")).collect();
    line(out, format_args!("\"{name}\": [\n{}\n],", rows.join(",\n")));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
    out.push('\n');
}
