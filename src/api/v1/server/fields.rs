//! The fields of a message as a backend has written them.
//!
//! Owns: the text of their values and their order, which reach the readers unchanged, as those of a
//! client do: a number may have more digits than any number of ours.
//! Never: looks into a value. The parser of commands judges the whole.

use std::fmt::{self, Write};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::wire::is_of_command;

/// See the module.
#[derive(Debug)]
pub(super) struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    /// The command that posts them, as a client would write it; without those that only a command
    /// has, however they are spelled.
    pub(super) fn of_command(&self, cmd: u64, dstid: u64, cid: Option<&str>) -> Vec<u8> {
        let mut text = format!(r#"{{"cmd":{cmd},"dstid":{dstid}"#);
        if let Some(cid) = cid {
            let _ = write!(text, r#","cid":{}"#, serde_json::Value::from(cid));
        }
        for (key, value) in &self.0 {
            if !is_of_command(key) {
                let _ = write!(text, ",{}:{}", serde_json::Value::from(key.as_str()), value.get());
            }
        }
        text.push('}');
        text.into_bytes()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        from.deserialize_map(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(message: &str, cid: Option<&str>) -> String {
        let fields: Fields = serde_json::from_str(message).expect("an object");
        String::from_utf8(fields.of_command(10, 7, cid)).expect("text")
    }

    #[test]
    fn what_a_backend_writes_stays_as_it_is() {
        let message = r#"{"z":1,"content":"a\u0041","big":123456789012345678901234567890,"a":[ 1.50 , {"y":1,"x":2}]}"#;
        let rest = &message[1..];
        assert_eq!(command(message, None), format!(r#"{{"cmd":10,"dstid":7,{rest}"#));
        assert_eq!(command("{}", Some("a\"b")), r#"{"cmd":10,"dstid":7,"cid":"a\"b"}"#);
    }

    #[test]
    fn it_cannot_say_what_the_command_is() {
        let message = r#"{"cmd":8,"CMD":8,"dstid":9,"Cid":"x","\u0063md":1,"dſtid":9,"d\u017ftid":9,"media":1}"#;
        assert_eq!(command(message, None), r#"{"cmd":10,"dstid":7,"media":1}"#);
        assert!(serde_json::from_str::<Fields>("[1]").is_err());
    }
}
