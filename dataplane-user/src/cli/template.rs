//! Docker's `--format`: Go's text/template with Docker's own functions, over JSON. The language itself is gtmpl-ng's; here
//! is what Docker adds, and every refusal as one sentence.

use std::fmt;

use gtmpl_ng::{Context, ExecError, Func, FuncError, Limits, ParseError, TemplateError, Value};
use regex::{Captures, Regex};
use serde_json::Value as Json;

/// Rows of a list carry their labels a second time under this name, for `{{.Label "key"}}`; [`json`] leaves it out.
pub(super) const LABELS: &str = "labels";

/// How a sentence about a field begins that is not there.
pub(super) const NO_FIELD: &str = "no field `";

/// More rounds than anything that we print has elements, and larger values.
const ROUNDS: usize = 1_000_000;
const BYTES: usize = 64 * 1024 * 1024;

/// What holds texts by keys of the user's: one that is absent is an empty text, as in Go, where a field that is absent is an
/// error.
const MAPS: [&str; 6] = [LABELS, "Attributes", "AuxiliaryAddresses", "DriverOpts", "Labels", "Options"];

/// Docker's functions beside those of the language, and `index` as Go has it.
const FUNCTIONS: [(&str, Func); 10] = [
    ("index", index),
    ("join", join),
    ("json", json),
    ("label", label),
    ("lower", lower),
    ("pad", pad),
    ("split", split),
    ("title", title),
    ("truncate", truncate),
    ("upper", upper),
];

/// A template that could be read.
pub(super) struct Template(gtmpl_ng::Template);

impl Template {
    /// Reads a template.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::with_functions(text, &FUNCTIONS)
    }

    /// Reads the template of a table's header: it is made of the titles, which no function changes.
    pub(super) fn header(text: &str) -> Result<Self, String> {
        let mut functions = FUNCTIONS.map(|(name, _)| (name, first as Func)).to_vec();
        functions.push(("printf", last));
        Self::with_functions(text, &functions)
    }

    fn with_functions(text: &str, functions: &[(&str, Func)]) -> Result<Self, String> {
        let limits = Limits::default().with_iterations(ROUNDS).with_function_output(BYTES);
        let mut template = gtmpl_ng::Template::with_limits(limits);
        template.add_funcs(functions);
        template.parse(with_labels(text)).map_err(|error| sentence(&error.into()))?;
        Ok(Template(template))
    }

    /// Fills it in.
    pub(super) fn render(&self, data: &Json) -> Result<String, String> {
        self.0.render(&Context::from(value(data))).map_err(|error| sentence(&error.into()))
    }
}

/// A text within an action, in each of Go's quotes.
const QUOTED: &str = r#""(?:\\.|[^"\\])*"|`[^`]*`|'(?:\\.|[^'\\])*'"#;

/// The only method of Docker's rows as a function: in actions, `.Label "key"` becomes `label . "key"`.
fn with_labels(text: &str) -> String {
    let pattern = |pattern: String| Regex::new(&pattern).expect("a pattern of our own");
    let action = pattern(format!(r#"(?s)\{{\{{(?:{QUOTED}|[^"`'])*?\}}\}}"#));
    // A field of something else may be called Label, too: `.Config.Label`.
    let method = pattern(format!(r"(?s){QUOTED}|(?<before>[^\w.)])(?<row>\$\w*)?\.Label(?<behind>\s)"));
    let call = |found: &Captures| match (found.name("before"), found.name("behind")) {
        (Some(before), Some(behind)) => {
            let row = found.name("row").map_or(".", |row| row.as_str());
            format!("{}label {row}{}", before.as_str(), behind.as_str())
        }
        _ => found[0].to_owned(),
    };
    action.replace_all(text, |found: &Captures| method.replace_all(&found[0], call).into_owned()).into_owned()
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").finish_non_exhaustive()
    }
}

/// What is wrong, without the place in the library's notation and without the data, which may fill the screen.
fn sentence(error: &TemplateError) -> String {
    let (place, message) = match error {
        TemplateError::ExecError(ExecError::Structured(error)) => (Some(&error.context), error.message.clone()),
        TemplateError::ParseError(ParseError::WithContext(place, message)) => (Some(place), message.clone()),
        other => (None, other.to_string()),
    };
    let message = match message.split_once("` in map[") {
        Some((field, _)) => format!("{field}`"),
        None => message.split_once(" in map[").map_or(message.as_str(), |(what, _)| what).to_owned(),
    };
    // One sentence is one line.
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match place {
        Some(place) => format!("{message} (line {}, column {})", place.line, place.col),
        None => message,
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(list) => Value::Array(list.iter().map(value).collect()),
        Json::Object(fields) => {
            Value::Object(fields.iter().map(|(name, field)| (name.clone(), field_value(name, field))).collect())
        }
    }
}

fn field_value(name: &str, field: &Json) -> Value {
    match value(field) {
        Value::Object(texts) if MAPS.contains(&name) => Value::Map(texts),
        value => value,
    }
}

/// What a template gave to a function, as JSON.
fn plain(value: &Value) -> Json {
    match value {
        Value::Bool(truth) => Json::Bool(*truth),
        Value::String(text) => Json::String(text.clone()),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().into(),
        },
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Object(fields) | Value::Map(fields) => {
            let shown = fields.iter().filter(|(name, _)| name.as_str() != LABELS);
            Json::Object(shown.map(|(name, field)| (name.clone(), plain(field))).collect())
        }
        _ => Json::Null,
    }
}

fn wrong(what: impl Into<String>) -> FuncError {
    FuncError::Generic(what.into())
}

/// The first text among the arguments: of a header's, the title.
fn first(arguments: &[Value]) -> Result<Value, FuncError> {
    Ok(arguments.iter().find(|value| matches!(value, Value::String(_))).cloned().unwrap_or_else(|| "".into()))
}

/// The last one, which follows `printf`'s format.
fn last(arguments: &[Value]) -> Result<Value, FuncError> {
    Ok(arguments.iter().rfind(|value| matches!(value, Value::String(_))).cloned().unwrap_or_else(|| "".into()))
}

fn text<'a>(function: &str, value: Option<&'a Value>) -> Result<&'a str, FuncError> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(format!("{function} wants a text, not {other}"))),
        None => Err(wrong(format!("{function} wants a text"))),
    }
}

fn number(function: &str, value: Option<&Value>) -> Result<usize, FuncError> {
    let number = match value {
        Some(Value::Number(number)) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    number.filter(|number| *number <= BYTES).ok_or_else(|| wrong(format!("{function} wants a number of characters")))
}

fn json(arguments: &[Value]) -> Result<Value, FuncError> {
    let [value] = arguments else { return Err(wrong("json wants one value")) };
    Ok(plain(value).to_string().into())
}

fn join(arguments: &[Value]) -> Result<Value, FuncError> {
    let [list, separator] = arguments else { return Err(wrong("join wants a list and a separator")) };
    let separator = text("join", Some(separator))?;
    match list {
        Value::Array(list) => Ok(list.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator).into()),
        Value::Nil | Value::NoValue => Ok("".into()),
        other => Err(wrong(format!("join wants a list, not {other}"))),
    }
}

fn split(arguments: &[Value]) -> Result<Value, FuncError> {
    let [whole, separator] = arguments else { return Err(wrong("split wants a text and a separator")) };
    let (whole, separator) = (text("split", Some(whole))?, text("split", Some(separator))?);
    Ok(Value::Array(match separator {
        "" => whole.chars().map(|character| character.to_string().into()).collect(),
        separator => whole.split(separator).map(Value::from).collect(),
    }))
}

fn index(arguments: &[Value]) -> Result<Value, FuncError> {
    let (whole, keys) = arguments.split_first().ok_or_else(|| wrong("index wants a list or a map"))?;
    let mut place = whole.clone();
    for key in keys {
        let found = match (&place, key) {
            (Value::Object(fields) | Value::Map(fields), Value::String(key)) => fields.get(key).cloned(),
            (Value::Array(list), Value::Number(_)) => list.get(number("index", Some(key))?).cloned(),
            _ => return Err(wrong(format!("index finds no {key} in that"))),
        };
        place = match (found, &place) {
            (Some(found), _) => found,
            (None, Value::Map(_)) => "".into(),
            (None, _) => return Err(wrong(format!("index finds no {key:?} there", key = key.to_string()))),
        };
    }
    Ok(place)
}

fn label(arguments: &[Value]) -> Result<Value, FuncError> {
    let [Value::Object(row) | Value::Map(row), key] = arguments else {
        return Err(wrong("label wants a row and a key"));
    };
    let key = text("label", Some(key))?;
    let labels = match row.get(LABELS) {
        Some(Value::Object(labels) | Value::Map(labels)) => labels,
        _ => return Err(wrong("no field `Label`")),
    };
    Ok(labels.get(key).cloned().unwrap_or_else(|| "".into()))
}

fn lower(arguments: &[Value]) -> Result<Value, FuncError> {
    Ok(text("lower", arguments.first())?.to_lowercase().into())
}

fn upper(arguments: &[Value]) -> Result<Value, FuncError> {
    Ok(text("upper", arguments.first())?.to_uppercase().into())
}

/// The first letter of each word as a capital.
fn title(arguments: &[Value]) -> Result<Value, FuncError> {
    let mut titled = String::new();
    let mut inside = false;
    for character in text("title", arguments.first())?.chars() {
        match inside {
            true => titled.push(character),
            false => titled.extend(character.to_uppercase()),
        }
        inside = character.is_alphanumeric() || matches!(character, '_' | '\'');
    }
    Ok(titled.into())
}

/// So many spaces before and behind.
fn pad(arguments: &[Value]) -> Result<Value, FuncError> {
    let padded = text("pad", arguments.first())?;
    if padded.is_empty() {
        return Ok("".into());
    }
    let (before, behind) = (number("pad", arguments.get(1))?, number("pad", arguments.get(2))?);
    Ok(format!("{}{padded}{}", " ".repeat(before), " ".repeat(behind)).into())
}

fn truncate(arguments: &[Value]) -> Result<Value, FuncError> {
    let (whole, length) = (text("truncate", arguments.first())?, number("truncate", arguments.get(1))?);
    Ok(whole.chars().take(length).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn container() -> Json {
        json!({
            "Name": "/web", "State": {"Running": true, "Pid": 42}, "Delta": -3, "Nothing": null,
            "Config": {"Cmd": ["sleep", "60"], "Labels": {"com.example/tier": "front"}},
            "NetworkSettings": {"Networks": {
                "foo": {"IPAddress": "10.0.0.2", "Aliases": ["db", "sql"]},
                "front-net": {"IPAddress": "10.1.0.2", "Aliases": null},
            }},
        })
    }

    fn render(template: &str) -> Result<String, String> {
        Template::parse(template)?.render(&container())
    }

    #[test]
    fn what_scripts_ask_docker_for() {
        for (template, wanted) in [
            ("{{.Name}}", "/web"),
            ("{{.NetworkSettings.Networks.foo.IPAddress}}", "10.0.0.2"),
            ("{{index .NetworkSettings.Networks \"front-net\" \"IPAddress\"}}", "10.1.0.2"),
            ("{{(index .NetworkSettings.Networks \"front-net\").IPAddress}}", "10.1.0.2"),
            ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "10.0.0.2 10.1.0.2 "),
            (
                "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}};{{end}}",
                "foo=10.0.0.2;front-net=10.1.0.2;",
            ),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{with .NetworkSettings.Networks.foo}}{{join .Aliases \", \"}}{{end}}", "db, sql"),
            ("{{len .Config.Cmd}} {{.State.Pid}} {{.Delta}}", "2 42 -3"),
            (
                "{{json .Config.Cmd}} {{json .Nothing}} {{json .Delta}} {{json .State}}",
                "[\"sleep\",\"60\"] null -3 {\"Pid\":42,\"Running\":true}",
            ),
            (
                "{{index .Config.Labels \"com.example/tier\"}}[{{index .Config.Labels \"zone\"}}] {{index .Config.Cmd 1}}",
                "front[] 60",
            ),
            ("{{.Name | upper | printf \"%s!\"}} {{title \"front net\"}} {{lower \"AB\"}}", "/WEB! Front Net ab"),
            ("{{index (split .Name \"/\") 1}}|{{pad \"x\" 1 2}}|{{truncate \"abcdef\" 3}}", "web| x  |abc"),
            ("{{if and .State.Running (gt .State.Pid 1)}}{{println \"yes\"}}{{end}}", "yes\n"),
            ("{{range .Config.Cmd}}{{.}},{{else}}none{{end}}", "sleep,60,"),
            ("{{if eq .Name \"/db\"}}db{{else if eq .Name \"/web\"}}web{{end}}", "web"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(wanted), "{template}");
        }
    }

    #[test]
    fn labels_of_a_row() {
        let row = json!({"Name": "web", "Labels": "tier=front", LABELS: {"tier": "front"}});
        let render = |template: &str| Template::parse(template).unwrap().render(&row).unwrap();
        assert_eq!(render("{{.Label \"tier\"}}[{{.Label \"zone\"}}]"), "front[]");
        assert_eq!(render("{{json .}}"), "{\"Labels\":\"tier=front\",\"Name\":\"web\"}");
        for (template, wanted) in [
            ("{{ .Label \"tier\" }}", "front"),
            ("{{- .Label `tier` -}}", "front"),
            ("{{.Label \"tier\" | upper}}", "FRONT"),
            ("{{if .Label \"tier\"}}yes{{end}}", "yes"),
            ("{{if eq (.Label \"tier\") \"front\"}}yes{{end}}", "yes"),
            ("{{with $key := \"tier\"}}{{$.Label $key}}{{end}}", "front"),
            ("{{$row := .}}{{range split \"tier,zone\" \",\"}}[{{$row.Label .}}]{{end}}", "[front][]"),
            // Texts stay texts, whatever is in them.
            (".Label \"tier\" {{\"a\\\" .Label \\\"tier\\\"\"}}", ".Label \"tier\" a\" .Label \"tier\""),
        ] {
            assert_eq!(render(template), wanted, "{template}");
        }
        let error = Template::parse("{{.Label}}").unwrap().render(&row).unwrap_err();
        assert!(error.starts_with("no field `Label`"), "{error}");
    }

    #[test]
    fn refusals_are_one_sentence() {
        for (template, why) in [
            ("{{.Nope}}", "no field `Nope` (line 1, column 3)"),
            ("{{.NetworkSettings.Networks.bar.IPAddress}}", "no field `bar`"),
            ("{{.Name", "unclosed action"),
            ("{{range .Config.Cmd}}", "unexpected EOF"),
            ("{{colour .Name}}", "function colour not defined"),
            ("{{.Name.First}}", "only maps and objects have fields"),
            ("{{join .Name \",\"}}", "join wants a list, not /web"),
            ("{{index .NetworkSettings.Networks \"bar\"}}", "index finds no \"bar\" there"),
            ("{{index .Config.Cmd 2}}", "index finds no \"2\" there"),
            ("{{pad .Name 99999999999 1}}", "pad wants a number of characters"),
            ("{{define \"r\"}}{{template \"r\" .}}{{end}}{{template \"r\" .}}", "nesting depth"),
        ] {
            let error = render(template).unwrap_err();
            assert!(error.contains(why) && !error.contains('\n') && error.len() < 200, "{template}: {error}");
        }
    }

    proptest! {
        /// Whatever somebody types: text or a sentence.
        #[test]
        fn no_template_panics(words in proptest::collection::vec(prop_oneof![
            Just("{{"), Just("}}"), Just(" "), Just("."), Just("range"), Just("if"), Just("else"), Just("end"), Just("with"),
            Just("$x"), Just(":="), Just("|"), Just("("), Just(")"), Just("index"), Just("json"), Just("join"), Just("pad"),
            Just("printf"), Just("\"%d\""), Just("\"a\""), Just("-1"), Just("7"), Just(".Name"), Just(".Config.Cmd"),
            Just("slice"), Just("truncate"), Just("split"), Just("define"), Just("template"), Just("len"), Just("é"), Just("{{-"),
            Just("-}}"), Just("break"), Just("{{.Label \""), Just("'x'"), Just("0x1p-2"), Just("1i"), Just("/*"), Just("*/"),
        ], 0..16), any in "\\PC{0,12}") {
            let _ = render(&format!("{}{any}", words.concat()));
            let _ = render(&words.join(" "));
            let _ = render(&format!("{{{{{any}}}}}"));
        }
    }
}
