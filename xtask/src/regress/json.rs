//! JSON, read: enough for the files of our own programs, strict about everything else. A crate for it would be most of what
//! xtask has to compile.

/// A value. Numbers stay as they are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Nesting beyond this is an error, not an overflowing stack.
const DEPTH: usize = 64;

impl Json {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut reader = Reader { rest: text };
        let value = reader.value(DEPTH).and_then(|value| match reader.peek() {
            None => Ok(value),
            Some(_) => Err("more than one value".to_string()),
        });
        value.map_err(|message| {
            let line = text[..text.len() - reader.rest.len()].matches('\n').count() + 1;
            format!("not JSON: {message} (line {line})")
        })
    }

    /// A member of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The elements of a list; none of anything else.
    pub(super) fn list(&self) -> &[Self] {
        if let Self::List(elements) = self { elements } else { &[] }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn number(&self) -> Option<f64> {
        if let Self::Number(text) = self { text.parse().ok() } else { None }
    }
}

/// A text as JSON has it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.rest.chars().next()
    }

    fn take(&mut self, what: &str) -> bool {
        self.peek();
        let after = self.rest.strip_prefix(what);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        if depth == 0 {
            return Err("nested too deep".into());
        }
        match self.peek() {
            Some('[') => {
                let mut elements = Vec::new();
                self.members(['[', ']'], |reader| {
                    elements.push(reader.value(depth - 1)?);
                    Ok(())
                })?;
                Ok(Json::List(elements))
            }
            Some('{') => {
                let mut members = Vec::new();
                self.members(['{', '}'], |reader| {
                    let key = reader.quoted()?;
                    if !reader.take(":") {
                        return Err(format!("no colon after {key:?}"));
                    }
                    members.push((key, reader.value(depth - 1)?));
                    Ok(())
                })?;
                Ok(Json::Object(members))
            }
            Some('"') => self.quoted().map(Json::Text),
            Some('-' | '0'..='9') => {
                let end = self.rest.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c));
                let (number, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                number.parse::<f64>().map_err(|_| format!("{number} is no number"))?;
                self.rest = rest;
                Ok(Json::Number(number.to_string()))
            }
            _ if self.take("null") => Ok(Json::Null),
            _ if self.take("true") => Ok(Json::Bool(true)),
            _ if self.take("false") => Ok(Json::Bool(false)),
            Some(other) => Err(format!("unexpected {other:?}")),
            None => Err("it ends early".into()),
        }
    }

    /// What stands between two brackets, apart by commas.
    fn members(
        &mut self,
        [open, close]: [char; 2],
        mut one: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(open).unwrap_or(self.rest);
        let close = close.to_string();
        if self.take(&close) {
            return Ok(());
        }
        loop {
            one(self)?;
            if self.take(&close) {
                return Ok(());
            }
            if !self.take(",") {
                return Err(format!("neither a comma nor {close:?}"));
            }
        }
    }

    fn quoted(&mut self) -> Result<String, String> {
        if !self.take("\"") {
            return Err("no text where one must be".into());
        }
        let mut out = String::new();
        loop {
            let mut chars = self.rest.chars();
            let c = chars.next().ok_or("a text without end")?;
            self.rest = chars.as_str();
            match c {
                '"' => return Ok(out),
                '\\' => out.push(self.escaped()?),
                c if c < ' ' => return Err(format!("{c:?} inside a text")),
                c => out.push(c),
            }
        }
    }

    /// What follows a backslash.
    fn escaped(&mut self) -> Result<char, String> {
        let mut chars = self.rest.chars();
        let c = chars.next().ok_or("a text without end")?;
        self.rest = chars.as_str();
        Ok(match c {
            '"' | '\\' | '/' => c,
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let first = self.unit()?;
                let code = if (0xd800..0xdc00).contains(&first) && self.rest.starts_with("\\u") {
                    self.rest = &self.rest[2..];
                    let second = self.unit()?;
                    0x10000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    first
                };
                char::from_u32(code).ok_or(format!("\\u{code:04x} is half a character"))?
            }
            other => return Err(format!("\\{other} means nothing")),
        })
    }

    fn unit(&mut self) -> Result<u32, String> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or("\\u without four digits")?;
        self.rest = &self.rest[4..];
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        let value = Json::read(r#" {"a": [1, -2.5e-3, true, null], "b": "x\"\\\né😀", "c": {}, "d": []} "#);
        let value = value.unwrap();
        let a: Vec<Option<f64>> = value.get("a").unwrap().list().iter().map(Json::number).collect();
        assert_eq!(a, [Some(1.0), Some(-0.0025), None, None]);
        assert_eq!(value.get("b").unwrap().text(), Some("x\"\\\né😀"));
        assert_eq!(value.get("c"), Some(&Json::Object(Vec::new())));
        assert_eq!(value.get("e"), None);
    }

    #[test]
    fn what_is_quoted_reads_the_same() {
        let text = "a \"quote\", a \\, a\nline, a \u{1} and an é";
        assert_eq!(Json::read(&quoted(text)).unwrap(), Json::Text(text.to_string()));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for wrong in [
            "",
            "{",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{a: 1}",
            "\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "1 2",
            "nul",
            "--",
            "\"\n\"",
        ] {
            assert!(Json::read(wrong).is_err(), "{wrong:?}");
        }
        assert!(Json::read(&"[".repeat(100_000)).unwrap_err().contains("deep"));
        assert!(Json::read("[1,\n2,\n@]").unwrap_err().contains("line 3"));
    }
}
