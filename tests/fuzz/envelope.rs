//! What stands on the bus between gateways, as plain functions: `fuzz/fuzz_targets/envelope.rs` and `tests/fuzz_corpus.rs` call them.

use imgate::clock::Now;
use imgate::cluster::envelope::{self, Bad, BusKey, From, To};
use imgate::cluster::exchange::{Exchange, In};
use imgate::ids::NodeId;
use imgate::store::Recent;

const NOW: Now = Now { mono_ms: 10_000, wall_ms: 1_800_000_000_000, sub_us: 0 };

/// Bytes without the key are nothing. The same bytes as items under a right tag are damaged, or items that are the same when they are said again; and
/// whatever they say, a gateway goes on.
pub(crate) fn envelope(input: &[u8]) {
    let key = BusKey::new((&[7; 32], None), "fuzz");
    assert!(envelope::decode(&BusKey::new((&[8; 32], None), "fuzz"), input).is_err(), "nobody has that key");
    let from = From { node: 2, boot: 5, count: 1, sent_ms: NOW.wall_ms, epoch: 9 };
    for to in [To::All, To::Node(1)] {
        match envelope::decode(&key, &envelope::seal(&key, &from, to, input)) {
            Ok(heard) => {
                assert_eq!((heard.from, heard.to), (from, to));
                let again = envelope::encode(&key, &from, to, &heard.items);
                let heard_again = envelope::decode(&key, &again).expect("what a gateway says is understood");
                assert_eq!((&heard_again.items, heard_again.unknown), (&heard.items, 0));
                go_on(heard);
            }
            Err(bad) => assert_eq!(bad, Bad::Damaged, "the tag and the version are right"),
        }
    }
}

/// A gateway that hears it, and then what time brings.
fn go_on(heard: envelope::Envelope) {
    let mut exchange = Exchange::new(NodeId(1), 6, 3, NOW, None);
    let mut out = Vec::new();
    let recent = Recent { epoch: 9, from_s: 10, now_s: 20, list: Vec::new(), next: None };
    let later = |ms: u64| Now { mono_ms: NOW.mono_ms + ms, wall_ms: NOW.wall_ms + ms, sub_us: 0 };
    let steps = [
        (0, In::Bus { up: true }),
        (0, In::Tick),
        (0, In::Scanned { scan: 1, answer: Some(recent) }),
        (0, In::Tick),
        (1_500, In::Tick),
        (1_500, In::Heard(heard)),
        (1_600, In::Tick),
        (1_600, In::Deaf { on: true }),
        (4_000, In::Tick),
        (4_000, In::Deaf { on: false }),
        (7_000, In::Tick),
        (10_000, In::Tick),
        (13_000, In::Tick),
        (16_000, In::Tick),
        (20_000, In::Tick),
        (20_000, In::Stop),
    ];
    for (ms, step) in steps {
        exchange.step(later(ms), step, &|_| ms % 2 == 0, &mut out);
    }
}
