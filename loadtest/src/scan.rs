//! Finds the few fields that a delivery needs in a JSON object, in one pass and without allocating.
//!
//! Owns: [`scan`]. It costs a fraction of a parse into a tree, which matters because the load
//! generator shares the machine with the server.
//! Never: validates. It is for what our own server wrote; odd input gives `None` or missing fields,
//! never a panic. Rare answers (a sync) are parsed by `serde_json` instead.

/// What was found at the top level. Strings are raw: between the quotes, escapes unresolved. Of a
/// repeated key the last one counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) cmd: Option<u64>,
    pub(crate) kind: Option<u64>,
    pub(crate) id: Option<u64>,
    pub(crate) seq: Option<u64>,
    pub(crate) userid: Option<u64>,
    pub(crate) dstid: Option<u64>,
    pub(crate) code: Option<u64>,
    pub(crate) retry: bool,
    pub(crate) cid: Option<&'a str>,
    pub(crate) content: Option<&'a str>,
}

/// Scans one JSON object. `None`: it is none.
pub(crate) fn scan(text: &str) -> Option<Fields<'_>> {
    let mut at = Cursor { text, place: 0 };
    let mut fields = Fields::default();
    at.space();
    at.take(b'{')?;
    at.space();
    if at.take(b'}').is_some() {
        return Some(fields);
    }
    loop {
        at.space();
        let key = at.string()?;
        at.space();
        at.take(b':')?;
        at.space();
        let value = at.value()?;
        fields.set(key, value);
        at.space();
        match at.next()? {
            b',' => {}
            b'}' => return Some(fields),
            _ => return None,
        }
    }
}

impl<'a> Fields<'a> {
    fn set(&mut self, key: &str, value: &'a str) {
        match key {
            "cmd" => self.cmd = number(value),
            "kind" => self.kind = number(value),
            "id" => self.id = number(value),
            "seq" => self.seq = number(value),
            "userid" => self.userid = number(value),
            "dstid" => self.dstid = number(value),
            "code" => self.code = number(value),
            "retry" => self.retry = value == "true",
            "cid" => self.cid = unquote(value),
            "content" => self.content = unquote(value),
            _ => {}
        }
    }
}

fn number(value: &str) -> Option<u64> {
    value.parse().ok().filter(|_| value.as_bytes().first() != Some(&b'+'))
}

fn unquote(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

struct Cursor<'a> {
    text: &'a str,
    place: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.place).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.place += 1;
        Some(byte)
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.place += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.place += 1;
        }
    }

    /// A string without its quotes.
    fn string(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.place;
        loop {
            match self.next()? {
                b'"' => return self.text.get(start..self.place - 1),
                b'\\' => self.place += 1,
                _ => {}
            }
        }
    }

    /// Any value, raw; arrays and objects by counting brackets outside strings.
    fn value(&mut self) -> Option<&'a str> {
        let start = self.place;
        match self.peek()? {
            b'"' => {
                self.string()?;
            }
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    match self.peek()? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.place += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                while !matches!(self.peek()?, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') {
                    self.place += 1;
                }
            }
        }
        self.text.get(start..self.place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9_f64..1e9).prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
            r#"[\\"{}\[\],:]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key(), inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    fn key() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::sample::select(vec![
                "cmd", "kind", "id", "seq", "userid", "dstid", "code", "retry", "cid", "content", "memo"
            ])
            .prop_map(str::to_owned),
            ".{0,6}",
        ]
    }

    /// The same fields by way of a whole parse.
    fn by_serde(object: &Map<String, Value>) -> (Vec<Option<u64>>, bool, Vec<Option<String>>) {
        let numbers = ["cmd", "kind", "id", "seq", "userid", "dstid", "code"];
        (
            numbers.iter().map(|key| object.get(*key).and_then(Value::as_u64)).collect(),
            object.get("retry") == Some(&Value::Bool(true)),
            ["cid", "content"].iter().map(|key| object.get(*key)?.as_str().map(str::to_owned)).collect(),
        )
    }

    fn by_scan(text: &str) -> (Vec<Option<u64>>, bool, Vec<Option<String>>) {
        let f = scan(text).expect("an object");
        let resolve = |raw: Option<&str>| {
            raw.map(|raw| serde_json::from_str::<String>(&format!("\"{raw}\"")).expect("a string stays one"))
        };
        (vec![f.cmd, f.kind, f.id, f.seq, f.userid, f.dstid, f.code], f.retry, vec![resolve(f.cid), resolve(f.content)])
    }

    proptest! {
        #[test]
        fn it_finds_what_a_parser_finds(pairs in prop::collection::vec((key(), value()), 0..10), pretty in any::<bool>()) {
            let object: Map<String, Value> = pairs.into_iter().collect();
            let text = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            prop_assert_eq!(by_scan(&text.expect("JSON")), by_serde(&object));
        }

        #[test]
        fn anything_is_answered_without_a_panic(text in prop_oneof![".{0,60}", r#"[{}\[\]",:\\a1 ]{0,40}"#]) {
            scan(&text);
        }
    }

    #[test]
    fn a_delivery_as_the_gateway_writes_it() {
        let text = r#"{"id":7,"seq":3,"ts":1,"userid":5,"cmd":11,"dstid":9,"cid":"a-1","media":1,"content":"x\"y","x":{"seq":8}}"#;
        let f = scan(text).expect("an object");
        assert_eq!((f.cmd, f.seq, f.userid, f.dstid), (Some(11), Some(3), Some(5), Some(9)));
        assert_eq!((f.cid, f.content), (Some("a-1"), Some(r#"x\"y"#)));
        assert_eq!(scan("welcome!"), None);
        assert_eq!(scan(r#"{"cmd":+1}"#).expect("an object").cmd, None);
    }
}
