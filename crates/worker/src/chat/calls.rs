//! The rules of calls that must be made, in the forms that are read as a whole.
//!
//! Where arguments are JSON they follow the tool's schema. Where they are written one by one, each has the type of its property: a text is
//! free up to what closes it (an `enum` is kept to), other types are JSON by the property's schema, and properties that are not in
//! the schema are not written.

use serde_json::{Value, json};

use super::CallForm;
use super::answer::kinds_of;
use super::shape::Shape;
use crate::WorkerError;
use crate::grammar::{Source, quoted};

/// Refuses a tool whose arguments this form cannot write: a name in them would be read as something else.
pub(super) fn check(form: CallForm, tools: &[&Value]) -> Result<(), WorkerError> {
    if !is_by_property(form) {
        return Ok(());
    }
    for tool in tools {
        let plain =
            |key: &str| !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "_-.$".contains(c));
        let properties = tool["function"]["parameters"]["properties"].as_object();
        if let Some((key, _)) = properties.into_iter().flatten().find(|(key, _)| !plain(key)) {
            return Err(WorkerError::Invalid {
                field: "tools",
                expected: "properties whose names are letters, digits and _-.$, as this model writes calls"
                    .to_owned(),
                found: format!("{key:?}"),
            });
        }
    }
    Ok(())
}

/// Are arguments written one by one?
fn is_by_property(form: CallForm) -> bool {
    use CallForm as F;
    matches!(form, F::Xml | F::ArgKeys | F::Gemma | F::Lfm | F::FunctionCalls)
}

impl Shape<'_> {
    /// `calls`, and a rule for each tool.
    pub(super) fn whole(&mut self, form: CallForm, tools: &[&Value], parallel: bool) {
        use CallForm as F;
        let list = |marker: String| (format!(r#"{marker} "[" "#), r#" "]""#.to_owned(), r#"", " "#);
        let (open, close, between) = match form {
            F::Deepseek | F::DeepseekFenced => (
                self.marker("<｜tool▁calls▁begin｜>") + " ",
                " ".to_owned() + &self.marker("<｜tool▁calls▁end｜>"),
                r#""\n"? "#,
            ),
            F::Kimi => (
                self.marker("<|tool_calls_section_begin|>") + " ",
                " ".to_owned() + &self.marker("<|tool_calls_section_end|>"),
                "",
            ),
            F::Granite => list(self.marker("<|tool_call|>")),
            F::MistralList => list(self.marker("[TOOL_CALLS]")),
            F::Lfm => {
                let (open, close, between) = list(self.marker("<|tool_call_start|>"));
                (open, format!("{close} {}", self.marker("<|tool_call_end|>")), between)
            }
            F::FunctionCalls => {
                (r#""<function_calls>\n" "#.to_owned(), r#" "\n</function_calls>""#.to_owned(), r#""\n" "#)
            }
            F::Xml | F::ArgKeys => (String::new(), String::new(), r#""\n" "#),
            _ => (String::new(), String::new(), ""),
        };
        let more = if parallel { format!(" ({between}call)*") } else { String::new() };
        self.rule("calls", &format!("{open}call{more}{close}"));
        let calls: Vec<String> = (0..tools.len()).map(|i| format!("call_{i}")).collect();
        self.rule("call", &calls.join(" | "));
        for (i, tool) in tools.iter().enumerate() {
            let body = self.whole_call(form, i, tool);
            self.rule(&format!("call_{i}"), &body);
        }
    }

    fn whole_call(&mut self, form: CallForm, i: usize, tool: &Value) -> String {
        use CallForm as F;
        let name = tool["function"]["name"].as_str().unwrap_or_default();
        if !is_by_property(form) {
            let arguments = self.arguments(i, tool);
            let head = |text: String| quoted(&text);
            return match form {
                F::Deepseek | F::DeepseekFenced => {
                    let (open, close) =
                        (self.marker("<｜tool▁call▁begin｜>"), self.marker("<｜tool▁call▁end｜>"));
                    let between = self.marker("<｜tool▁sep｜>");
                    if form == F::Deepseek {
                        format!("{open} {} {between} {arguments} {close}", quoted(name))
                    } else {
                        let head = head(format!("{name}\n```json\n"));
                        format!(r#"{open} "function" {between} {head} {arguments} "\n```" {close}"#)
                    }
                }
                F::Kimi => {
                    let (open, close) =
                        (self.marker("<|tool_call_begin|>"), self.marker("<|tool_call_end|>"));
                    let between = self.marker("<|tool_call_argument_begin|>");
                    let head = head(format!("functions.{name}:"));
                    format!("{open} {head} /[0-9]/ {between} {arguments} {close}")
                }
                F::Mistral => {
                    let (open, between) = (self.marker("[TOOL_CALLS]"), self.marker("[ARGS]"));
                    format!("{open} {} {between} {arguments}", quoted(name))
                }
                _ => {
                    let head = head(format!("{{\"name\": {}, \"arguments\": ", quoted(name)));
                    format!(r#"{head} {arguments} "}}""#)
                }
            };
        }
        let arguments = self.properties(form, i, tool);
        match form {
            F::Xml => {
                let (open, close) = (self.marker("<tool_call>"), self.marker("</tool_call>"));
                let head = quoted(&format!("\n<function={name}>\n"));
                format!(r#"{open} {head} {arguments} "</function>\n" {close}"#)
            }
            F::ArgKeys => {
                let (open, close) = (self.marker("<tool_call>"), self.marker("</tool_call>"));
                format!(r#"{open} {} "\n"? {arguments} {close}"#, quoted(name))
            }
            F::Gemma => {
                let (open, close) = (self.marker("<|tool_call>"), self.marker("<tool_call|>"));
                format!(r#"{open} {} {arguments} "}}" {close}"#, quoted(&format!("call:{name}{{")))
            }
            _ => format!(r#"{} {arguments} ")""#, quoted(&format!("{name}("))),
        }
    }

    /// The properties of a tool's arguments in the schema's order: the required ones always, others perhaps.
    fn properties(&mut self, form: CallForm, i: usize, tool: &Value) -> String {
        let parameters = &tool["function"]["parameters"];
        let required = |key: &str| {
            parameters["required"].as_array().is_some_and(|keys| keys.iter().any(|required| required == key))
        };
        let between = match form {
            CallForm::Gemma => r#""," "#,
            CallForm::Lfm | CallForm::FunctionCalls => r#"", " "#,
            _ => "",
        };
        let properties: Vec<(&String, &Value)> =
            parameters["properties"].as_object().into_iter().flatten().collect();
        // Of those from `from` on: one of them, up to the first that must be there.
        let next = |from: usize| {
            let rest = properties.get(from..).unwrap_or_default();
            let must = rest.iter().position(|(key, _)| required(key));
            let last = must.map_or(properties.len(), |at| from + at + 1);
            let choices: Vec<String> = (from..last).map(|j| format!("property_{i}_{j}")).collect();
            (choices.join(" | "), must.is_some())
        };
        for (j, (key, schema)) in properties.iter().enumerate() {
            let written = self.property(form, &format!("{i}_{j}"), (key, schema), parameters);
            let (choices, must) = next(j + 1);
            let more = match (choices.is_empty(), must) {
                (true, _) => String::new(),
                (false, true) => format!(" {between}({choices})"),
                (false, false) => format!(" ({between}({choices}))?"),
            };
            self.rule(&format!("property_{i}_{j}"), &format!("{written}{more}"));
        }
        match next(0) {
            (choices, _) if choices.is_empty() => String::new(),
            (choices, true) => format!("({choices})"),
            (choices, false) => format!("({choices})?"),
        }
    }

    fn property(
        &mut self,
        form: CallForm,
        at: &str,
        (key, schema): (&str, &Value),
        parameters: &Value,
    ) -> String {
        match form {
            CallForm::Xml => {
                let value = self.raw_value(at, schema, parameters, &quoted("\n</parameter>\n"));
                format!("{} {value}", quoted(&format!("<parameter={key}>\n")))
            }
            CallForm::ArgKeys => {
                let [open_key, close_key, open, close] =
                    ["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"].map(|name| self.marker(name));
                let value = self.raw_value(at, schema, parameters, &close);
                format!(r#"{open_key} {} {close_key} "\n"? {open} {value} "\n"?"#, quoted(key))
            }
            CallForm::Gemma => {
                let value = self.gemma_value(at, schema, parameters);
                format!("{} {value}", quoted(&format!("{key}:")))
            }
            _ => {
                let value = self.json_value(at, schema, parameters);
                format!("{} {value}", quoted(&format!("{key}=")))
            }
        }
    }

    /// A value as JSON.
    fn json_value(&mut self, at: &str, schema: &Value, parameters: &Value) -> String {
        let mut schema = if schema.is_object() { schema.clone() } else { json!({}) };
        for key in ["$defs", "definitions"] {
            if let (Some(defined), Some(schema)) = (parameters.get(key), schema.as_object_mut()) {
                schema.entry(key).or_insert_with(|| defined.clone());
            }
        }
        self.parts.push(Source::schema_part(&format!("value_{at}"), schema));
        format!("@value_{at}")
    }

    /// A value as bare text, with what closes it.
    fn raw_value(&mut self, at: &str, schema: &Value, parameters: &Value, close: &str) -> String {
        if let Some(choices) = choices(schema, |text| quoted(&text)) {
            return format!("({choices}) {close}");
        }
        if is_text(schema) {
            self.free_text(at, close)
        } else {
            format!("{} {close}", self.json_value(at, schema, parameters))
        }
    }

    fn gemma_value(&mut self, at: &str, schema: &Value, parameters: &Value) -> String {
        let quote = self.marker("<|\"|>");
        let written = |text: String| format!("{quote} {} {quote}", quoted(&text));
        let is_of_texts = choices(schema, |text| text).is_some() && is_text(schema);
        match choices(schema, written) {
            Some(choices) if is_of_texts => format!("({choices})"),
            _ if is_text(schema) => format!("{quote} {}", self.free_text(at, &quote)),
            // Lists and objects hold texts in quotes that are not JSON's: only their form is kept to.
            _ if is_nested(schema) => {
                self.gemma_values(&quote);
                "gemma_value".to_owned()
            }
            _ => self.json_value(at, schema, parameters),
        }
    }

    /// The rules of any value of Gemma's.
    fn gemma_values(&mut self, quote: &str) {
        if self.rules.contains("\ngemma_value:") {
            return;
        }
        let text = self.free_text("any", quote);
        self.rule("gemma_text", &format!("{quote} {text}"));
        self.rule("gemma_value", r#"gemma_text | gemma_list | gemma_object | GEMMA_WORD"#);
        self.rule("gemma_list", r#""[" (gemma_value ("," gemma_value)*)? "]""#);
        self.rule("gemma_object", r#""{" (gemma_pair ("," gemma_pair)*)? "}""#);
        self.rule("gemma_pair", r#"GEMMA_KEY ":" gemma_value"#);
        self.rule("GEMMA_KEY", r"/[A-Za-z_][A-Za-z0-9_]*/");
        self.rule("GEMMA_WORD", r"/true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?/");
    }

    /// Any text up to what closes it, which is part of it.
    fn free_text(&mut self, at: &str, close: &str) -> String {
        if close.starts_with('<') {
            self.rule(&format!("TEXT_{at}"), r"/(.|\n)*/");
            return format!("TEXT_{at} {close}");
        }
        self.rule(&format!("text_{at}[lazy]"), &format!(r"/(.|\n)*/ {close}"));
        format!("text_{at}")
    }
}

/// The values of an `enum` or `const`, texts as they are and others as JSON.
fn choices(schema: &Value, written: impl Fn(String) -> String) -> Option<String> {
    let listed: Vec<&Value> = match (schema["enum"].as_array(), schema.get("const")) {
        (Some(values), _) => values.iter().collect(),
        (None, value) => value.into_iter().collect(),
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let all: Vec<String> = listed.into_iter().map(|value| written(text(value))).collect();
    (!all.is_empty()).then(|| all.join(" | "))
}

/// May it be a text?
fn is_text(schema: &Value) -> bool {
    let mut kinds = Vec::new();
    kinds_of(schema, 0, &mut kinds);
    kinds.is_empty() || kinds.contains(&"string")
}

/// Is it a list or an object?
fn is_nested(schema: &Value) -> bool {
    let mut kinds = Vec::new();
    kinds_of(schema, 0, &mut kinds);
    kinds.contains(&"array") || kinds.contains(&"object")
}
