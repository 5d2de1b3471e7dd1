//! The words that a layer may not say.

use imgate::metrics::names::ALL;

use super::source::{Source, is_test_file, occurrences};

/// Words that stand only in some places.
struct Rule {
    /// The words, whole ones where they begin or end with a letter.
    words: &'static [&'static str],
    /// Where the rule holds: beginnings of paths.
    within: &'static [&'static str],
    /// Where the words may stand nevertheless: beginnings of paths.
    except: &'static [&'static str],
    /// Why.
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        words: &["Instant::now", "SystemTime::now"],
        within: &["src/", "loadtest/src/"],
        except: &["src/clock.rs", "loadtest/src/clock.rs"],
        reason: "time is an argument; only clock.rs reads it",
    },
    Rule {
        words: &["mio"],
        within: &["src/"],
        except: &["src/mesh/", "src/driver/"],
        reason: "readiness is the business of mesh and driver",
    },
    Rule {
        words: &["rusqlite", "mysql"],
        within: &["src/"],
        except: &["src/store/"],
        reason: "databases stay below store",
    },
    Rule {
        words: &["tokio", "axum", "hyper", "hyper_util", "tower"],
        within: &["src/"],
        except: &["src/api/", "src/cluster/", "src/hooks/", "src/object_store/"],
        reason: "asynchronous code is the control plane's",
    },
    Rule {
        words: &["unbounded", "unbounded_channel"],
        within: &["src/", "loadtest/src/"],
        except: &[],
        reason: "every queue has a bound in limits.rs",
    },
    Rule {
        words: &["mpsc::channel"],
        within: &["src/"],
        // tokio's channel of that name has a bound.
        except: &["src/api/", "src/cluster/", "src/hooks/"],
        reason: "the standard library's channel has no bound",
    },
    Rule {
        words: &["thread_local!", "lazy_static", "lazy_static!", "LazyLock", "static mut"],
        within: &["src/", "loadtest/src/"],
        except: &[],
        reason: "no state in statics or thread-locals; everything is passed",
    },
    Rule {
        words: &[
            "RefCell",
            "Mutex",
            "RwLock",
            "AtomicUsize",
            "AtomicU64",
            "AtomicBool",
            "getrandom",
            "tracing",
            "crossbeam_channel",
        ],
        within: &["src/shard/"],
        except: &[],
        reason: "a shard is a value: no lock, channel, random source or log inside",
    },
    Rule {
        words: &["std::net", "std::thread", "std::fs", "std::time", "std::env", "socket2", "rustix"],
        within: &["src/shard/", "src/wire/", "src/ws/", "src/http/"],
        except: &[],
        reason: "bytes and time come in as values",
    },
    Rule {
        words: &[".unwrap()", ".expect(", ".unwrap_err()", ".expect_err(", "panic!"],
        within: &["src/ws/", "src/http/", "src/wire/", "src/shard/", "pictures/src/"],
        // The one alarm for states that only our own fault can reach.
        except: &["src/shard/broken.rs"],
        reason: "network input never panics",
    },
    Rule {
        words: &["println!", "print!", "eprintln!", "eprint!", "dbg!"],
        within: &["src/"],
        except: &["src/main.rs"],
        reason: "the library does not print",
    },
    Rule {
        words: &["Serialize", "Deserialize"],
        within: &["src/"],
        except: &["src/wire/", "src/cluster/", "src/api/", "src/config.rs"],
        reason: "serializable types stay at the edge",
    },
];

/// Complaints about the words of one file.
pub(crate) fn check(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.holds_in(&source.path)) {
        for word in rule.words {
            for at in occurrences(&source.shipped, word) {
                complaints.push(format!("{}, line {}: `{word}`: {}", source.path, source.line(at), rule.reason));
            }
        }
    }
    complaints.extend(statics(source));
    complaints.extend(strings(source));
    complaints
}

impl Rule {
    fn holds_in(&self, path: &str) -> bool {
        let begins = |list: &[&str]| list.iter().any(|start| path.starts_with(start));
        begins(self.within) && !begins(self.except) && !is_test_file(path)
    }
}

/// Items declared `static`.
fn statics(source: &Source) -> Vec<String> {
    if !source.is_ours() {
        return Vec::new();
    }
    occurrences(&source.shipped, "static")
        .filter(|&at| !source.shipped[..at].ends_with('\''))
        // The allocator can be named in no other way, and has no state that a program sees.
        .filter(|&at| !source.shipped[..at].trim_end().ends_with("#[global_allocator]"))
        .map(|at| format!("{}, line {}: a `static` item: pass it", source.path, source.line(at)))
        .collect()
}

/// Beginnings of statements, as they stand in capitals in string literals.
const SQL: [&str; 10] = [
    "SELECT ",
    "INSERT INTO ",
    "INSERT OR ",
    "UPDATE ",
    "DELETE FROM ",
    "CREATE TABLE ",
    "CREATE INDEX ",
    "PRAGMA ",
    "BEGIN IMMEDIATE",
    "REPLACE INTO ",
];

/// SQL outside store, and names of metrics outside their list.
fn strings(source: &Source) -> Vec<String> {
    if !source.is_ours() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (line, inside) in &source.strings {
        if !source.path.starts_with("src/store/") && SQL.iter().any(|word| inside.contains(word)) {
            complaints.push(format!("{}, line {line}: SQL stays below store", source.path));
        }
        let metric = ALL.iter().any(|metric| metric.name == inside);
        if metric && source.path != "src/metrics/names.rs" {
            complaints.push(format!("{}, line {line}: a metric's name stands in metrics/names.rs only", source.path));
        }
    }
    complaints
}

#[cfg(test)]
fn complaints(path: &str, text: &str) -> usize {
    check(&Source::new(path, text)).len()
}

#[test]
fn every_rule_can_fail() {
    for rule in RULES {
        for word in rule.words {
            let path = format!("{}planted.rs", rule.within[0]);
            let text = format!("fn f() {{ x{} {word} }}", if word.starts_with('.') { "" } else { ";" });
            assert_eq!(complaints(&path, &text).min(1), 1, "{word} in {path}");
            assert_eq!(complaints(&path, &format!("// {word}\nfn f() {{ \"{word}\"; }}")), 0, "{word} in a comment");
            for allowed in rule.except {
                let path = if allowed.ends_with('/') { format!("{allowed}planted.rs") } else { (*allowed).to_owned() };
                let own = |complaint: &String| complaint.contains(rule.reason);
                assert!(!check(&Source::new(&path, &text)).iter().any(own), "{word} in {path}");
            }
        }
    }
}

#[test]
fn words_are_whole_words() {
    assert_eq!(
        complaints("src/shard/x.rs", "let mior = premio; let t: &'static str = x; #[expect(dead_code)] fn f() {}"),
        0
    );
    assert_eq!(complaints("src/shard/x.rs", "x.unwrap_or(y).unwrap_or_default()"), 0);
    assert_eq!(complaints("src/shard/x.rs", "#[cfg(test)]\nmod tests { fn f() { x.unwrap(); } }"), 0);
}

#[test]
fn statics_sql_and_metric_names_are_found() {
    assert_eq!(complaints("src/auth.rs", "static COUNT: u32 = 0;"), 1);
    assert_eq!(complaints("src/auth.rs", "let q = \"SELECT 1\";"), 1);
    assert_eq!(complaints("src/store/sqlite.rs", "let q = \"SELECT 1\";"), 0);
    assert_eq!(complaints("src/api/admin.rs", "let q = \"imgate_sessions\";"), 1);
    assert_eq!(complaints("src/api/caller.rs", "let q = \"imgate_cookie\";"), 0);
    assert_eq!(complaints("src/metrics/names.rs", "let q = \"imgate_sessions\";"), 0);
}
