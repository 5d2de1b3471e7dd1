//! A client without a gateway: what the application and the thread say to each other.

use super::*;

/// The thread of this test sleeps until it is woken, as a worker whose channel is full.
#[test]
fn places_that_fill_the_channel_wake_the_thread_when_they_are_taken() {
    let (told, events) = sync_channel(limits::EVENTS_MAX);
    let mut poll = Poll::new().expect("a poll");
    let waker = Waker::new(poll.registry(), WAKE).expect("a waker");
    let shared = Arc::new(Shared { waker, unsent: AtomicUsize::new(0), full: AtomicBool::new(true) });
    for user in 1..=limits::EVENTS_MAX as u64 {
        told.try_send(Told::Place(Conv::Direct(user), 1, None)).expect("room");
    }
    let worker = thread::spawn(move || {
        let mut ready = Events::with_capacity(1);
        poll.poll(&mut ready, Some(Duration::from_secs(20))).expect("a poll");
        // Otherwise the channel ends, and with it the waiting.
        if !ready.is_empty() {
            told.send(Told::Event(Event::Online)).expect("it is waited for");
        }
    });
    let (calls, _taken) = sync_channel(1);
    let (events, places) = (Mutex::new(events), Mutex::new(HashMap::new()));
    let client = Client { calls, events, places, shared, thread: None, boot: 0, posted: AtomicU64::new(0) };
    assert_eq!(client.next(), Some(Event::Online));
    assert_eq!(client.places().len(), limits::EVENTS_MAX);
    worker.join().expect("no panic");
}
