//! The outbox: a commit says what it wants sent, and when its host ends before that has been done,
//! another one sends it, or the same one when it is back. So nothing that was committed stays unheard
//! of; a client may hear of it twice.
//!
//! Left out are volatile emissions. What asked clients for acknowledgements is sent without asking,
//! since nobody would be there to take them.

use super::{
    Pipeline,
    check::Step,
    execute::{By, Executor},
};
use crate::{
    core::{
        names::{ConnectionId, Namespace, RoomName},
        recipient::Who,
    },
    ports::{Fault, Frame, PartitionOf, Unsent},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// How long after its start a host waits before it sends what was left unsent: stock clients are back
/// and in their rooms by then.
const AFTER_START: Duration = Duration::from_secs(8);

/// How often it is looked for what other hosts have left.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How many commits' emissions are sent at once, and the pause after them.
const AT_ONCE: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// What a commit wants sent.
#[derive(Debug, Serialize, Deserialize)]
struct Outgoing {
    namespace: String,
    emissions: Vec<Emission>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Emission {
    to: Vec<Target>,
    except: Vec<Target>,
    packet: String,
    /// In Base64.
    attachments: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Target {
    Connection(String),
    Room(String),
    Everyone,
}

impl Target {
    fn of(who: &Who) -> Self {
        match who {
            Who::Connection(id) => Self::Connection(id.to_string()),
            Who::Room(room) => Self::Room(room.as_str().to_owned()),
            Who::Everyone => Self::Everyone,
        }
    }

    fn who(&self) -> Option<Who> {
        match self {
            Self::Connection(id) => ConnectionId::parse(id).map(Who::Connection),
            Self::Room(room) => RoomName::new(room).ok().map(Who::Room),
            Self::Everyone => Some(Who::Everyone),
        }
    }
}

/// Returns the text of what steps send, none where they send nothing that would be sent later.
pub(super) fn to_text(namespace: &Namespace, steps: &[Step]) -> Option<String> {
    let emissions: Vec<Emission> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Emit {
                to,
                except,
                frame,
                volatile: false,
                ..
            } => Some(Emission {
                to: to.iter().map(Target::of).collect(),
                except: except.iter().map(Target::of).collect(),
                packet: frame.packet.clone(),
                attachments: frame
                    .attachments
                    .iter()
                    .map(|bytes| BASE64_STANDARD.encode(bytes))
                    .collect(),
            }),
            _ => None,
        })
        .collect();
    if emissions.is_empty() {
        return None;
    }
    let outgoing = Outgoing {
        namespace: namespace.as_str().to_owned(),
        emissions,
    };
    serde_json::to_string(&outgoing).ok()
}

/// Returns the steps of such a text.
fn from_text(text: &str) -> Option<(Namespace, Vec<Step>)> {
    let outgoing: Outgoing = serde_json::from_str(text).ok()?;
    let steps = outgoing.emissions.into_iter().filter_map(|emission| {
        let attachments: Result<Vec<Bytes>, _> = emission
            .attachments
            .iter()
            .map(|text| BASE64_STANDARD.decode(text).map(Bytes::from))
            .collect();
        let all = |targets: &[Target]| targets.iter().filter_map(Target::who).collect();
        Some(Step::Emit {
            to: all(&emission.to),
            except: all(&emission.except),
            frame: Frame {
                packet: emission.packet,
                attachments: attachments.ok()?,
            },
            volatile: false,
            ack: None,
        })
    });
    let steps = steps.collect();
    Some((Namespace::new(&outgoing.namespace).ok()?, steps))
}

/// Sends what hosts that have ended left unsent, until this one stops.
pub async fn send_unsent(pipeline: Arc<Pipeline>) {
    // This host's clients have to have had the time to come.
    let mut wait = AFTER_START;
    while pipeline
        .unless_stopping(tokio::time::sleep(wait))
        .await
        .is_some()
    {
        wait = LOOK_EVERY;
        let unsent = match pipeline.transactions.store().unsent().await {
            Ok(unsent) => unsent,
            Err(Fault { message, .. }) => {
                tracing::debug!(why = message, "what was left unsent is not known");
                continue;
            }
        };
        if !unsent.is_empty() {
            tracing::info!(
                commits = unsent.len(),
                "sending what was committed and perhaps not sent before its host ended"
            );
        }
        for (index, one) in unsent.into_iter().enumerate() {
            // Not so fast that clients which read would be taken for those that do not.
            if index % AT_ONCE == AT_ONCE - 1 {
                tokio::time::sleep(PAUSE).await;
            }
            send(&pipeline.executor, &one);
            let partition = PartitionOf {
                plugin: &one.plugin,
                name: &one.partition,
            };
            pipeline.transactions.sent(partition, one.place);
        }
    }
}

fn send(executor: &Executor, unsent: &Unsent) {
    let Some((namespace, steps)) = from_text(&unsent.outgoing) else {
        tracing::error!(plugin = %unsent.plugin, "what was left unsent cannot be read");
        return;
    };
    let by = By {
        namespace: &namespace,
        plugin: &unsent.plugin,
        depth: 0,
        owed: None,
    };
    executor.execute(steps, by);
}
