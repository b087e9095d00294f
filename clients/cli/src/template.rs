//! `--format`: tables for people, JSON for programs, and templates of Go for fingers that know Docker's.
//!
//! The language is a crate's (docs/decisions/0035). A template sees the API's message under the API's names, and beside
//! them what Docker calls the same.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use gtmpl::{Context, FuncError, Value};
use prost::{Message, Name};
use serde_json::Value as Json;

use crate::failure::Failure;
use crate::render;

/// The longest template.
pub const MAX_TEMPLATE_BYTES: usize = 16 * 1024;
/// The crate goes down into nested parts by recursion; this is enough for the longest template.
const STACK_BYTES: usize = 256 * 1024 * 1024;
/// Fields whose content has keys of somebody's own, of which one may be missing.
const MAPS: [&str; 9] = [
    "Labels",
    "Networks",
    "Options",
    "Ports",
    "annotations",
    "driver_options",
    "labels",
    "options",
    "sysctls",
];

/// How a command prints that takes templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// For people
    Table,
    /// For programs: one object a line
    Json,
    /// As the caller says
    Template(Template),
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ if text.contains("{{") => Template::parse(text).map(Self::Template),
            _ => Err("write table, json, or a template of Go such as '{{.ID}} {{.Names}}'".to_owned()),
        }
    }
}

impl Output {
    /// Prints one message as `inspect` does: JSON, indented or a line, or the template over `names` of it.
    ///
    /// # Errors
    /// As [`Template::print`].
    pub fn show<M: Message + Name>(
        &self,
        message: &M,
        names: impl FnOnce(&M) -> Json,
    ) -> Result<(), Failure> {
        match self {
            Self::Table => render::json_pretty(message),
            Self::Json => render::json_lines([message]),
            Self::Template(template) => template.print(&[], &[names(message)]),
        }
    }
}

/// A template that was read without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// A line with the names of the columns comes first, and columns line up.
    is_table: bool,
}

/// Name of a column for templates, and what stands above it.
pub type Column = (&'static str, &'static str);

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(format!("a template has at most {MAX_TEMPLATE_BYTES} bytes (MAX_TEMPLATE_BYTES)"));
        }
        let (is_table, text) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        // Source: docker/cli `cli/command/formatter/formatter.go`, `preFormat`: what a shell left as two characters.
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let checked = text.clone();
        on_large_stack(move || read(&checked).map(|_| ()))?;
        Ok(Self { text, is_table })
    }

    /// Whether a field of this name may be asked for.
    pub fn names(&self, field: &str) -> bool {
        self.text.contains(&format!(".{field}"))
    }

    /// Prints a line for each of `rows`, which are objects; with `table`, the names of `columns` above.
    ///
    /// # Errors
    /// A field that there is not, a function that does not fit, or standard output is closed.
    pub fn print(&self, columns: &[Column], rows: &[Json]) -> Result<(), Failure> {
        let heads: serde_json::Map<String, Json> =
            columns.iter().map(|(name, head)| ((*name).to_owned(), Json::from(*head))).collect();
        let text = self.text.clone();
        let mut values: Vec<Value> = Vec::with_capacity(rows.len() + 1);
        if self.is_table {
            values.push(value("", &Json::Object(heads)));
        }
        values.extend(rows.iter().map(|row| value("", row)));
        let lines = on_large_stack(move || {
            let template = read(&text)?;
            values
                .into_iter()
                .map(|value| {
                    template.render(&Context::from(value)).map_err(|error| shortened(&error.to_string()))
                })
                .collect::<Result<Vec<String>, String>>()
        })
        .map_err(|error| wrong(&error))?;
        if self.is_table {
            return render::line(aligned(&lines));
        }
        lines.iter().try_for_each(|line| render::text(line))
    }
}

fn wrong(error: &str) -> Failure {
    Failure::usage(
        format!("--format: {error}"),
        "names are those of --format json, and Docker's where docs/cli.md lists them; functions: json, join, split, lower, upper, title, index, len, printf, println",
    )
}

fn read(text: &str) -> Result<gtmpl::Template, String> {
    let mut template = gtmpl::Template::default();
    for (name, function) in FUNCTIONS {
        template.add_func(name, function);
    }
    template.parse(text).map_err(|error| shortened(&error.to_string()))?;
    Ok(template)
}

/// What `act` gives, on a stack on which it can go as deep as the longest template.
fn on_large_stack<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(act);
    let ended = thread.map_err(|error| format!("no thread: {error}"))?.join();
    ended.unwrap_or_else(|_| Err("the template cannot be carried out".to_owned()))
}

/// The crate's message without the dump of a value that it ends with, and without its own place.
fn shortened(message: &str) -> String {
    let message = message.trim_start_matches("template: :").trim_start_matches(|c: char| c.is_ascii_digit());
    let message = message.trim_start_matches(':').trim();
    let end = [" for {", " in {", " in ["].iter().filter_map(|mark| message.find(mark)).min();
    render::printable(&message[..end.unwrap_or(message.len())])
}

/// Lines of cells with tabs between them as a table; the first line is its header.
fn aligned(lines: &[String]) -> String {
    let cells: Vec<Vec<String>> =
        lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    let width = cells.iter().map(Vec::len).max().unwrap_or(0);
    let mut rows = cells.into_iter().map(|mut row| {
        row.resize(width, String::new());
        row
    });
    let header = rows.next().unwrap_or_default();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    render::table(&header, &rows.collect::<Vec<_>>())
}

/// JSON for templates. `name`: of the field that it is in.
fn value(name: &str, json: &Json) -> Value {
    match json {
        Json::Null => Value::NoValue,
        Json::Bool(it) => Value::Bool(*it),
        Json::Number(number) => number
            .as_i64()
            .map(Value::from)
            .or_else(|| number.as_u64().map(Value::from))
            .unwrap_or_else(|| Value::from(number.as_f64().unwrap_or(f64::NAN))),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(|item| value(name, item)).collect()),
        Json::Object(fields) => {
            let values: HashMap<String, Value> =
                fields.iter().map(|(key, field)| (key.clone(), value(key, field))).collect();
            if MAPS.contains(&name) {
                Value::Map(values)
            } else {
                Value::Object(values)
            }
        }
    }
}

/// `more` beside what `message` has.
pub fn with(mut message: Json, more: Json) -> Json {
    if let (Json::Object(fields), Json::Object(more)) = (&mut message, more) {
        fields.extend(more);
    }
    message
}

/// Labels in one text, by name.
pub fn pairs(labels: &BTreeMap<String, String>) -> String {
    let mut pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.sort();
    pairs.join(",")
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Bool(it) => Json::from(*it),
        Value::String(text) => Json::from(text.as_str()),
        Value::Number(number) => number
            .as_i64()
            .map(Json::from)
            .or_else(|| number.as_u64().map(Json::from))
            .or_else(|| number.as_f64().map(Json::from))
            .unwrap_or(Json::Null),
        Value::Array(items) => items.iter().map(json_of).collect(),
        Value::Object(fields) | Value::Map(fields) => {
            fields.iter().map(|(key, field)| (key.clone(), json_of(field))).collect()
        }
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
    }
}

type Function = fn(&[Value]) -> Result<Value, FuncError>;

/// Functions that Docker adds to Go's. Source: docker/cli `templates/templates.go`.
const FUNCTIONS: [(&str, Function); 6] = [
    ("json", |values| Ok(Value::String(json_of(one(values)?).to_string()))),
    ("lower", |values| Ok(Value::String(text(one(values)?)?.to_lowercase()))),
    ("upper", |values| Ok(Value::String(text(one(values)?)?.to_uppercase()))),
    ("title", |values| Ok(Value::String(title(text(one(values)?)?)))),
    ("join", |values| {
        let [Value::Array(items), separator] = values else {
            return Err(FuncError::Generic("join takes a list and a text".to_owned()));
        };
        let items: Vec<&str> = items.iter().map(text).collect::<Result<_, _>>()?;
        Ok(Value::String(items.join(text(separator)?)))
    }),
    ("split", |values| {
        let [whole, separator] = values else {
            return Err(FuncError::Generic("split takes two texts".to_owned()));
        };
        let parts = text(whole)?.split(text(separator)?);
        Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
    }),
];

fn one(values: &[Value]) -> Result<&Value, FuncError> {
    match values {
        [value] => Ok(value),
        _ => Err(FuncError::Generic("takes one argument".to_owned())),
    }
}

fn text(value: &Value) -> Result<&str, FuncError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(FuncError::Generic("takes texts".to_owned())),
    }
}

fn title(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let Output::Template(template) = text.parse()? else { return Err("no template".to_owned()) };
        let row = json!({
            "ID": "abc", "count": 12_345_678_901_i64, "share": 1.5, "nothing": null, "list": ["x", "y"],
            "State": {"Running": true, "Status": "up"}, "Labels": {"a.b/c": "d"},
        });
        let value = value("", &row);
        on_large_stack(move || {
            let read = read(&template.text)?;
            read.render(&Context::from(value)).map_err(|error| shortened(&error.to_string()))
        })
    }

    #[test]
    fn the_language_is_gos() {
        for (template, expected) in [
            ("{{.ID}}\\t{{.State.Status}}", "abc\tup"),
            ("{{.count}} {{.share}} {{.nothing}}", "12345678901 1.5 <no value>"),
            ("{{json .State}}", r#"{"Running":true,"Status":"up"}"#),
            (
                "{{json .}}",
                r#"{"ID":"abc","Labels":{"a.b/c":"d"},"State":{"Running":true,"Status":"up"},"count":12345678901,"list":["x","y"],"nothing":null,"share":1.5}"#,
            ),
            ("{{range $i, $e := .list}}{{if $i}}, {{end}}{{$e}}{{end}}", "x, y"),
            ("{{if .State.Running}}yes{{else}}no{{end}}{{with .nothing}}some{{end}}", "yes"),
            (r#"{{index .Labels "a.b/c"}} {{index .Labels "none"}}"#, "d <no value>"),
            (
                r#"{{join .list ","}} {{upper .ID}} {{title .State.Status}} {{index (split "a:b" ":") 1}}"#,
                "x,y ABC Up b",
            ),
            (r#"{{printf "%-5s|" .ID}}{{len .list}}"#, "abc  |2"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_values() {
        for (template, part) in [
            ("{{.Nope}}", "no field Nope"),
            ("{{.State.Nope}}", "no field Nope"),
            ("{{.ID.x}}", "only maps and objects have fields"),
            ("{{.ID", "unexpected"),
            ("{{nope .ID}}", "function nope not defined"),
            ("{{upper .list}}", "takes texts"),
            ("{{index .list 9}}", "unable to get 9"),
        ] {
            let error = rendered(template).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
            assert!(!error.contains("String("), "{error}");
        }
        assert!("yaml".parse::<Output>().is_err());
    }

    #[test]
    fn the_longest_and_deepest_template_ends_in_order() {
        let deep = |depth: usize| format!("{{{{{}.ID{}}}}}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(rendered(&deep(8000)).as_deref(), Ok("abc"));
        let error = rendered(&deep(9000)).unwrap_err();
        assert!(error.contains("MAX_TEMPLATE_BYTES"), "{error}");
    }

    #[test]
    fn cells_of_a_table_line_up_under_its_names() {
        let lines = ["ID\tNAMES".to_owned(), "abcdef\tone".to_owned(), "a".to_owned()];
        assert_eq!(aligned(&lines), "ID       NAMES\nabcdef   one\na");
    }
}
