//! What plugins have asked clients of servers of another kind, whose answers name only the question.

use crate::{core::names::Namespace, ports::Asking};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Questions that are remembered; of more the oldest are forgotten.
const MOST: usize = 10_000;

/// See the module's page.
pub(super) struct Questions {
    /// How long a question may be answered.
    patience: Duration,
    asked: Mutex<Asked>,
}

/// Until when it may be answered, where it was asked, and by whom.
type Question = (Instant, Namespace, Asking);

#[derive(Default)]
struct Asked {
    by_id: HashMap<String, Question>,
    /// In the order in which they were asked.
    ages: VecDeque<(Instant, String)>,
}

impl Questions {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            asked: Mutex::default(),
        }
    }

    /// Remembers a question, for as long as it may be answered.
    pub(super) fn ask(&self, id: String, namespace: &Namespace, asking: &Asking, now: Instant) {
        let mut asked = self.asked.lock();
        while let Some((until, _)) = asked.ages.front()
            && (*until <= now || asked.ages.len() >= MOST)
            && let Some((_, old)) = asked.ages.pop_front()
        {
            asked.by_id.remove(&old);
        }
        let until = now + self.patience;
        asked.ages.push_back((until, id.clone()));
        let question = (until, namespace.clone(), asking.clone());
        asked.by_id.insert(id, question);
    }

    /// Returns where and by whom a question was asked that has this id, while it may be answered. Each
    /// client answers it once, and they are many.
    pub(super) fn get(&self, id: &str) -> Option<(Namespace, Asking)> {
        self.get_at(id, Instant::now())
    }

    fn get_at(&self, id: &str, now: Instant) -> Option<(Namespace, Asking)> {
        let asked = self.asked.lock();
        let (until, namespace, asking) = asked.by_id.get(id)?;
        (now < *until).then(|| (namespace.clone(), asking.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::names::PluginName;
    use std::sync::Arc;

    #[test]
    fn questions_are_forgotten_when_nobody_can_answer_any_more() {
        let patience = Duration::from_secs(60);
        let (questions, root) = (Questions::new(patience), Namespace::root());
        let now = Instant::now();
        let asking = Asking {
            plugin: PluginName::new("chat").unwrap(),
            token: Arc::from("t"),
            depth: 0,
        };
        let ask = |id: &str, now| questions.ask(id.to_owned(), &root, &asking, now);
        ask("one", now);
        assert_eq!(questions.get("one"), Some((root.clone(), asking.clone())));
        assert!(questions.get("one").is_some() && questions.get("two").is_none());
        assert!(questions.get_at("one", now + patience).is_none());
        ask("two", now + patience);
        assert!(questions.get("one").is_none() && questions.get("two").is_some());
        for number in 0..MOST {
            ask(&number.to_string(), now + patience);
        }
        assert!(questions.get("two").is_none() && questions.get("0").is_some());
    }
}
