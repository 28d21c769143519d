//! The messages of one channel that this host has heard and nobody is known to handle: all hosts keep
//! them, so that whoever takes the lease over goes on with the very next one.
//!
//! Redis hands messages to every listener in one order. A mark is a message that all hosts hear at the
//! same place, so they agree on the position of each message: the mark before it, and how many came
//! since. A host whose connection broke has missed some, and hears none before the next mark.

use std::{collections::VecDeque, fmt, str::FromStr};

/// A place among the messages of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) mark: u64,
    pub(super) index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.mark, self.index)
    }
}

impl FromStr for Position {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (mark, index) = text.split_once(' ').ok_or(())?;
        let mark = mark.parse().map_err(|_| ())?;
        let index = index.parse().map_err(|_| ())?;
        Ok(Self { mark, index })
    }
}

/// What may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Messages.
    pub(super) messages: usize,
    /// Their bytes together.
    pub(super) bytes: usize,
    /// Bytes of one that is kept at all; of a larger one only its size is.
    pub(super) message_bytes: usize,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) position: Position,
    /// What it says, or how large it is.
    pub(super) body: Result<Vec<u8>, usize>,
}

impl Message {
    fn size(&self) -> usize {
        // A constant for the message itself, so that empty ones do not wait for free.
        self.body.as_ref().map_or(0, Vec::len) + 128
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The last place that was heard; none before the first mark.
    heard: Option<Position>,
    messages: VecDeque<Message>,
    bytes: usize,
    bounds: Bounds,
    /// Whether this host handles them.
    holds: bool,
    /// Messages that there was no place for, or none any more, since it was last asked.
    dropped: u64,
}

impl Waiting {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            heard: None,
            messages: VecDeque::new(),
            bytes: 0,
            bounds,
            holds: false,
            dropped: 0,
        }
    }

    /// The connection broke.
    pub(super) fn cut(&mut self) {
        self.heard = None;
    }

    /// A mark is heard. They grow, but for a Redis that has lost everything and has an earlier clock:
    /// what waits from before has no place among what comes then, and is dropped.
    pub(super) fn mark(&mut self, mark: u64) {
        let is_later = |message: &Message| message.position.mark > mark;
        if self.messages.back().is_some_and(is_later) {
            self.dropped += self.messages.len() as u64;
            self.messages.clear();
            self.bytes = 0;
        }
        self.heard = Some(Position { mark, index: 0 });
    }

    /// Tells whether this host knows where it is among the messages, since a mark.
    pub(super) fn is_placed(&self, since: u64) -> bool {
        self.heard.is_some_and(|heard| heard.mark >= since)
    }

    /// A message is heard. Who handles them has no place for it when too many wait; others forget the
    /// oldest, which are most likely claimed. Returns whether it is this host's to handle.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> bool {
        let Some(position) = self.heard.as_mut() else {
            return false;
        };
        position.index += 1;
        let body = match bytes.len() > self.bounds.message_bytes {
            true => Err(bytes.len()),
            false => Ok(bytes.to_vec()),
        };
        let message = Message {
            position: *position,
            body,
        };
        let size = message.size();
        while self.messages.len() >= self.bounds.messages || self.bytes + size > self.bounds.bytes {
            self.dropped += 1;
            if self.holds || self.forget_first().is_none() {
                return self.holds;
            }
        }
        self.bytes += size;
        self.messages.push_back(message);
        self.holds
    }

    fn forget_first(&mut self) -> Option<Message> {
        let first = self.messages.pop_front()?;
        self.bytes -= first.size();
        Some(first)
    }

    fn forget_to(&mut self, position: Position) -> Vec<Message> {
        let mut taken = Vec::new();
        while let Some(first) = self.messages.front()
            && first.position <= position
        {
            taken.extend(self.forget_first());
        }
        taken
    }

    /// Messages are another host's.
    pub(super) fn claimed(&mut self, position: Position) {
        // What is this host's own it takes by itself, once it knows of it.
        if !self.holds {
            self.forget_to(position);
            self.dropped = 0;
        }
    }

    /// This host handles messages from now on, those behind a position. Returns how many of them may
    /// be missing because there was no place for them.
    pub(super) fn hold(&mut self, claimed: Position) -> u64 {
        self.forget_to(claimed);
        self.holds = true;
        std::mem::take(&mut self.dropped)
    }

    /// This host does not handle messages any more.
    pub(super) fn release(&mut self) {
        self.holds = false;
        self.dropped = 0;
    }

    /// Returns how many messages were dropped since it was last asked, where this host handles them.
    pub(super) fn dropped(&mut self) -> u64 {
        match self.holds {
            true => std::mem::take(&mut self.dropped),
            false => 0,
        }
    }

    /// Returns the place of the last of the next messages: so many at most, and so many bytes, but one
    /// at least.
    pub(super) fn next(&self, most: usize, bytes: usize) -> Option<Position> {
        let mut sum = 0;
        let next = self.messages.iter().take(most).enumerate();
        let next = next.take_while(|(index, message)| {
            sum += message.size();
            *index == 0 || sum <= bytes
        });
        next.last().map(|(_, message)| message.position)
    }

    /// Takes the messages up to a place, which are this host's.
    pub(super) fn take(&mut self, position: Position) -> Vec<Message> {
        self.forget_to(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(messages: usize) -> Waiting {
        Waiting::new(Bounds {
            messages,
            bytes: 10_000,
            message_bytes: 1_000,
        })
    }

    fn at(mark: u64, index: u64) -> Position {
        Position { mark, index }
    }

    fn texts(messages: Vec<Message>) -> Vec<String> {
        let text = |message: Message| String::from_utf8(message.body.unwrap()).unwrap();
        messages.into_iter().map(text).collect()
    }

    fn hear(waiting: &mut Waiting, texts: &[&str]) {
        for text in texts {
            waiting.hear(text.as_bytes());
        }
    }

    #[test]
    fn two_hosts_agree_on_positions_from_a_mark_on() {
        let (mut early, mut late) = (waiting(100), waiting(100));
        early.mark(5);
        hear(&mut early, &["a", "b"]);
        hear(&mut late, &["b"]);
        for host in [&mut early, &mut late] {
            host.mark(9);
            hear(host, &["c", "d", "e"]);
        }
        early.hold(at(5, 1));
        // It claims "b", "c" and "d", and dies.
        assert_eq!(early.next(3, 1_000), Some(at(9, 2)));
        assert_eq!(texts(early.take(at(9, 2))), ["b", "c", "d"]);
        assert_eq!(late.hold(at(9, 2)), 0);
        let next = late.next(10, 1_000).unwrap();
        assert_eq!(texts(late.take(next)), ["e"]);
    }

    #[test]
    fn nothing_is_heard_between_a_cut_and_a_mark() {
        let mut host = waiting(100);
        hear(&mut host, &["too early"]);
        host.mark(1);
        hear(&mut host, &["a"]);
        host.cut();
        assert!(!host.is_placed(1));
        hear(&mut host, &["unknown where"]);
        host.mark(2);
        assert!(host.is_placed(2) && !host.is_placed(3));
        hear(&mut host, &["b"]);
        host.hold(at(0, 0));
        assert_eq!(texts(host.take(at(2, 9))), ["a", "b"]);
    }

    #[test]
    fn marks_that_go_backwards_drop_what_is_from_before() {
        let mut host = waiting(100);
        host.mark(9);
        host.hold(at(9, 0));
        hear(&mut host, &["a", "b"]);
        host.mark(3);
        assert!(host.is_placed(3) && !host.is_placed(9));
        hear(&mut host, &["c"]);
        let next = host.next(10, 1_000).unwrap();
        assert_eq!(next, at(3, 1));
        assert_eq!(texts(host.take(next)), ["c"]);
        assert_eq!((host.dropped(), host.bytes), (2, 0));
        assert_eq!(host.next(10, 1_000), None);
    }

    #[test]
    fn what_others_claim_is_forgotten_and_ones_own_is_not() {
        let mut host = waiting(100);
        host.mark(1);
        hear(&mut host, &["a", "b", "c"]);
        host.claimed(at(1, 1));
        assert_eq!(host.hold(at(1, 1)), 0);
        // Its own news may come before the answer to its claim.
        host.claimed(at(1, 3));
        assert_eq!(texts(host.take(at(1, 3))), ["b", "c"]);
        assert_eq!(host.bytes, 0);
    }

    #[test]
    fn who_holds_drops_what_is_new_and_others_what_is_old() {
        let mut holder = waiting(2);
        holder.mark(1);
        holder.hold(at(1, 0));
        hear(&mut holder, &["a", "b", "c", "d"]);
        assert_eq!((holder.dropped(), holder.dropped()), (2, 0));
        assert_eq!(texts(holder.take(at(1, 9))), ["a", "b"]);
        // Positions count what was dropped, too.
        hear(&mut holder, &["e"]);
        assert_eq!(holder.next(9, 1_000), Some(at(1, 5)));

        let mut other = waiting(2);
        other.mark(1);
        hear(&mut other, &["a", "b", "c"]);
        assert_eq!(other.dropped(), 0);
        assert_eq!(other.hold(at(1, 0)), 1);
        assert_eq!(texts(other.take(at(1, 9))), ["b", "c"]);
    }

    #[test]
    fn bytes_bound_what_waits_and_what_is_next() {
        let mut host = waiting(1_000);
        host.mark(1);
        host.hold(at(1, 0));
        for _ in 0..50 {
            host.hear(&[b'x'; 500]);
        }
        assert_eq!(host.messages.len(), 10_000 / 628);
        assert_eq!(host.next(9, 1_300), Some(at(1, 2)));
        assert_eq!(host.next(9, 1), Some(at(1, 1)));
        host.take(at(2, 0));
        host.hear(&[b'x'; 1_001]);
        assert_eq!(host.take(at(2, 0)).pop().unwrap().body, Err(1_001));
        host.hear(&[b'x'; 20_000]);
        assert_eq!((host.next(1, 1).is_some(), host.bytes), (true, 128));
    }

    #[test]
    fn a_position_survives_its_text() {
        let position = at(1_763_000_000_000_000, 12);
        assert_eq!(position.to_string().parse(), Ok(position));
        for odd in ["", "1", "1 ", "1 2 3", "a 1"] {
            assert_eq!(odd.parse::<Position>(), Err(()), "{odd}");
        }
    }
}
