//! The life of a node among others: it says that it lives and what changes, looks who says nothing, and
//! learns when it was taken for dead itself. Who cannot hear, or has not been awake, judges nobody.

use super::{
    Cluster,
    burial::Graveyard,
    letters::{About, Change, Letter, Running, Said},
    names::SETTLING,
    others::{Everyone, LEASE, Others},
    own::Own,
};
use crate::{
    link::listener::Health,
    pipeline::Pipeline,
    ports::{Journal, Moved},
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// How often a node says that it lives, and looks who does not.
const BEAT: Duration = Duration::from_secs(2);
/// Between two beats of a node that was awake, and until it hears its own, at most.
pub(super) const AWAKE: Duration = Duration::from_secs(5);
/// Changes that are told of at once.
const CHANGES: usize = 512;
/// How often all connections are told of, however many ask.
const WHOLE: Duration = Duration::from_millis(250);
/// Longer than anybody lingers.
const LINGER: Duration = Duration::from_hours(24);
/// The pause before it is looked again whether there is room for the next part.
const ROOM: Duration = Duration::from_millis(20);

/// What is asked of the task that speaks for this node.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Somebody wants to know all of its connections.
    Whole,
    /// Somebody wants to know about this node.
    About,
    /// Something is said to others.
    Say(Said),
    /// This node, by the name it had, was taken for dead as of so many changes.
    Buried(String, u64),
    /// The host ends.
    Bye(oneshot::Sender<()>),
}

/// The task that speaks for this node.
pub(super) struct Lease {
    pub(super) cluster: Arc<Cluster>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) moved: mpsc::UnboundedReceiver<Moved>,
    pub(super) wanted: mpsc::UnboundedReceiver<Wanted>,
    pub(super) others: Arc<Mutex<Others>>,
    pub(super) graveyard: Arc<Graveyard>,
    pub(super) own: Own,
    pub(super) everyone: Everyone,
    /// Where it listens, and since when.
    pub(super) address: SocketAddr,
    pub(super) since: Instant,
    pub(super) telling: Telling,
}

/// How far it is with telling of all connections. Meanwhile no changes are told of, so that all parts
/// are of one moment.
#[derive(Debug)]
pub(super) struct Telling {
    wanted: bool,
    look_at: Instant,
    last: Option<Instant>,
    parts: VecDeque<Said>,
}

impl Telling {
    pub(super) fn new() -> Self {
        Self {
            wanted: false,
            look_at: Instant::now(),
            last: None,
            parts: VecDeque::new(),
        }
    }
}

/// Waits until then; for ever where there is no such moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

impl Lease {
    /// Lives until the host ends.
    pub(super) async fn live(mut self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut health = self.cluster.health.clone();
        let mut judges_from = Instant::now() + LEASE;
        let mut last_beat = Instant::now();
        let mut settles = None;
        loop {
            let whole = self.telling.wanted || !self.telling.parts.is_empty();
            tokio::select! {
                Some(moved) = self.moved.recv(), if self.telling.parts.is_empty() => self.tell(moved),
                Some(wanted) = self.wanted.recv() => {
                    if let Some(bye) = self.serve(wanted) {
                        return self.leave(bye).await;
                    }
                }
                () = tokio::time::sleep_until(self.telling.look_at.into()), if whole => self.tell_whole(),
                Ok(()) = health.changed() => {
                    if *health.borrow_and_update() == Health::Listening {
                        *self.cluster.since.lock() = Instant::now();
                        // What was said in the meantime was missed, here and there.
                        self.say(Said::Ask { of: None });
                        self.telling.wanted = true;
                        settles = Some(Instant::now() + SETTLING);
                    }
                }
                () = until(settles) => {
                    // What was held back until now is not held back until the next beat.
                    settles = None;
                    self.pipeline.executor.presence.look_at_all();
                }
                _ = beat.tick() => {
                    self.say(self.own.alive());
                    self.count();
                    let now = Instant::now();
                    self.end_orphans(now);
                    self.pipeline.executor.presence.look_at_all();
                    let was_awake = now < std::mem::replace(&mut last_beat, now) + AWAKE;
                    let hears = *health.borrow() == Health::Listening && self.cluster.hears_itself(now, AWAKE);
                    if !hears || !was_awake {
                        judges_from = now + LEASE;
                        self.others.lock().excuse(now);
                    } else if now >= judges_from {
                        let graveyard = self.graveyard.clone();
                        let looking = async move { graveyard.look().await };
                        self.pipeline.tasks.spawn_on(looking, &self.pipeline.runtime);
                    }
                }
            }
        }
    }

    /// Ends the lingering of those whose hosts have ended; one host tells plugins of it.
    fn end_orphans(&self, now: Instant) {
        let own = self.cluster.node.lock().clone();
        let (gone, tells) = {
            let mut others = self.others.lock();
            (others.take_orphans(now), others.is_first(&own))
        };
        for gone in gone.into_iter().filter(|_| tells) {
            let pipeline = self.pipeline.clone();
            let telling = async move { pipeline.tell_gone(gone).await };
            self.pipeline
                .tasks
                .spawn_on(telling, &self.pipeline.runtime);
        }
    }

    fn count(&self) {
        let (hosts, connections) = self.others.lock().count();
        let metrics = &self.cluster.metrics;
        metrics.other_hosts.set(hosts as i64);
        metrics.other_connections.set(connections as i64);
    }

    fn say(&self, said: Said) {
        self.cluster.say(said);
    }

    fn about(&self) -> About {
        let table = self.pipeline.routes.snapshot();
        let plugins = table.plugins().iter().map(|plugin| {
            let info = plugin.info();
            Running {
                name: info.name().as_str().to_owned(),
                version: info.manifest.version.clone(),
                digest: info.digest.clone(),
            }
        });
        About {
            address: self.address.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: self.since.elapsed().as_secs(),
            connections: self.pipeline.connections.len(),
            others: self.others.lock().count().0,
            plugins: plugins.collect(),
        }
    }

    fn tell(&mut self, first: Moved) {
        let mut changes: Vec<Change> = vec![first.into()];
        while changes.len() < CHANGES
            && let Ok(next) = self.moved.try_recv()
        {
            changes.push(next.into());
        }
        let said = self.own.change(changes);
        self.say(said);
    }

    /// Goes on telling of all connections, as far as there is room for it.
    fn tell_whole(&mut self) {
        let now = Instant::now();
        // Changes come in between, however often, and do not put it off.
        self.telling.look_at = now + ROOM;
        if self.telling.parts.is_empty() {
            let is_early = self.telling.last.is_some_and(|last| now < last + WHOLE);
            if is_early {
                return;
            }
            self.telling.wanted = false;
            self.telling.last = Some(now);
            self.telling.parts = self.own.whole(&self.everyone).into();
        }
        while self.cluster.publisher.has_room()
            && let Some(part) = self.telling.parts.pop_front()
        {
            self.say(part);
        }
    }

    /// Does what is asked; returns whom to tell when the host ends.
    fn serve(&mut self, wanted: Wanted) -> Option<oneshot::Sender<()>> {
        match wanted {
            Wanted::Say(said) => self.say(said),
            Wanted::About => self.say(Said::Here(self.about())),
            Wanted::Whole => self.telling.wanted = true,
            Wanted::Bye(done) => return Some(done),
            Wanted::Buried(name, changes) if name == *self.cluster.node.lock() => {
                tracing::error!(
                    "other hosts have taken this one for dead; its clients have to connect anew"
                );
                *self.cluster.node.lock() = fresh_node();
                let own = std::mem::take(&mut self.own);
                self.telling = Telling::new();
                self.pipeline
                    .end_all(|id| own.is_known_by(changes, &id.to_string()));
            }
            Wanted::Buried(..) => {}
        }
        None
    }

    /// Says the last things.
    async fn leave(mut self, done: oneshot::Sender<()>) {
        if self.cluster.names.is_empty() {
            // Nobody else is there to tell of those whose hosts ended just before.
            let orphans = self.others.lock().take_orphans(Instant::now() + LINGER);
            for gone in orphans {
                self.pipeline.tell_gone(gone).await;
            }
            self.pipeline.end_all_lingering().await;
        }
        while let Ok(moved) = self.moved.try_recv() {
            self.tell(moved);
        }
        if self.telling.wanted || !self.telling.parts.is_empty() {
            // Who still waits for it would not know who lingers.
            for part in self.own.whole(&self.everyone) {
                self.say(part);
            }
        }
        self.say(Said::Bye);
        done.send(()).ok();
    }
}

/// Returns the name of a node that nobody has taken for dead.
pub(super) fn fresh_node() -> String {
    Uuid::now_v7().simple().to_string()
}

/// Takes a letter from another node.
pub(super) fn take(
    cluster: &Cluster,
    others: &Mutex<Others>,
    pipeline: &Arc<Pipeline>,
    letter: Letter,
) {
    let own = cluster.node.lock().clone();
    if letter.node == own {
        cluster.heard_itself(Instant::now());
        return;
    }
    match &letter.said {
        Said::Ask { of } if of.as_ref().is_none_or(|of| *of == own) => {
            cluster.want(Wanted::Whole);
        }
        Said::Who => cluster.want(Wanted::About),
        Said::Buried { node, changes } if *node == own => {
            return cluster.want(Wanted::Buried(own, *changes));
        }
        _ => {}
    }
    let (said, untold) = {
        let mut others = others.lock();
        (others.take(letter, Instant::now()), others.take_untold())
    };
    if let Some(said) = said {
        cluster.want(Wanted::Say(said));
    }
    // All hosts find that out; one tells.
    for gone in untold {
        if cluster.speaks_for(&gone.identity.user) {
            let telling = pipeline.clone();
            let tell = async move { telling.tell_gone(gone).await };
            pipeline.tasks.spawn_on(tell, &pipeline.runtime);
        }
    }
}
