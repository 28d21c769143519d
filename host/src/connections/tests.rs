use super::*;
use crate::ports::Nowhere;

fn limits() -> Limits {
    let rate = Rate {
        per_second: 1.0,
        burst: 2.0,
    };
    Limits {
        per_connection: rate,
        per_user: rate,
        mailbox_events: 2,
        mailbox_bytes: 10_000,
        refusals: 10,
    }
}

fn message(args: &str) -> Message {
    Message {
        name: EventName::new("x").unwrap(),
        args: args.to_owned(),
        attachments: Vec::new(),
        ack: None,
        at_ms: 0,
    }
}

fn identity(user: &str) -> Arc<Identity> {
    Arc::new(Identity::new(
        UserId::new(user).unwrap(),
        "student".to_owned(),
        serde_json::Map::new(),
        None,
    ))
}

fn connect(table: &Connections, user: &str, now: Instant) -> Arc<Connection> {
    let connection = table.create(
        Namespace::new("/").unwrap(),
        Nowhere::outbound(),
        Arc::default(),
    );
    table.identify(&connection, identity(user), now);
    assert!(table.insert(&connection));
    connection
}

#[test]
fn items_wait_in_order_and_one_worker_is_started() {
    let now = Instant::now();
    let table = Connections::new(limits());
    let connection = connect(&table, "ann", now);
    assert!(matches!(
        connection.push_message(message("[1]"), &limits()),
        Pushed::Queued
    ));
    assert!(matches!(
        connection.open_mailbox(Some(Notice::Connected)),
        Pushed::Start
    ));
    assert!(matches!(
        connection.push_message(message("[2]"), &limits()),
        Pushed::Queued
    ));
    assert!(matches!(
        connection.push_message(message("[3]"), &limits()),
        Pushed::Full(_)
    ));
    assert!(matches!(connection.next_item(), Some(Item::Notice { .. })));
    for expected in ["[1]", "[2]"] {
        assert!(matches!(connection.next_item(), Some(Item::Message(m)) if m.args == expected));
    }
    assert!(!connection.is_idle());
    assert!(connection.next_item().is_none());
    assert!(connection.is_idle());
    assert!(matches!(
        connection.push_message(message("[4]"), &limits()),
        Pushed::Start
    ));
}

#[test]
fn a_connection_that_ends_at_once_is_announced_all_the_same() {
    let now = Instant::now();
    let table = Connections::new(limits());
    let connection = connect(&table, "ann", now);
    connection.end_mailbox("gone".into());
    connection.open_mailbox(Some(Notice::Connected));
    assert!(matches!(
        connection.next_item(),
        Some(Item::Notice {
            notice: Notice::Connected,
            ..
        })
    ));
    assert!(matches!(connection.next_item(), Some(Item::End { .. })));
}

#[test]
fn bytes_are_bounded_but_one_message_always_fits() {
    let now = Instant::now();
    let table = Connections::new(limits());
    let connection = connect(&table, "ann", now);
    let large = "x".repeat(20_000);
    assert!(matches!(
        connection.push_message(message(&large), &limits()),
        Pushed::Queued
    ));
    assert!(matches!(
        connection.push_message(message("[]"), &limits()),
        Pushed::Full(_)
    ));
}

#[test]
fn an_acknowledgement_is_settled_once() {
    let now = Instant::now();
    let table = Connections::new(limits());
    let connection = connect(&table, "ann", now);
    connection.open_mailbox(None);
    let ask = |token: &str| connection.ask(token.into(), "p".into(), 1);
    let (one, two) = (ask("one").unwrap(), ask("two").unwrap());
    connection.settle(one, Ok("[]".to_owned()), Vec::new());
    connection.end_mailbox("gone".into());
    connection.settle(two, Ok("[]".to_owned()), Vec::new());
    assert!(ask("three").is_none());
    let mut told = Vec::new();
    while let Some(item) = connection.next_item() {
        match item {
            Item::Notice {
                notice: Notice::Acknowledged { token, outcome, .. },
                ..
            } => told.push(format!("{token} {outcome:?}")),
            Item::End { .. } => told.push("end".to_owned()),
            _ => {}
        }
    }
    assert_eq!(
        told,
        [r#"one Ok("[]")"#, r#"two Err("disconnected")"#, "end"]
    );
}

#[test]
fn nothing_is_taken_after_the_end() {
    let now = Instant::now();
    let table = Connections::new(limits());
    let connection = connect(&table, "ann", now);
    connection.open_mailbox(None);
    assert!(matches!(
        connection.end_mailbox("gone".into()),
        Pushed::Start
    ));
    assert!(matches!(
        connection.push_message(message("[]"), &limits()),
        Pushed::Ended
    ));
    assert!(!table.insert(&connection));
}

#[test]
fn a_user_shares_one_rate_and_reconnecting_does_not_refill_it() {
    let now = Instant::now();
    let table = Connections::new(limits());
    let first = connect(&table, "ann", now);
    let second = connect(&table, "ann", now);
    let other = connect(&table, "ben", now);
    assert!(first.take_rate(now).is_ok() && second.take_rate(now).is_ok());
    assert!(first.take_rate(now).is_err() && second.take_rate(now).is_err());
    assert!(other.take_rate(now).is_ok());
    table.remove(&first, now);
    table.remove(&second, now);
    assert!(connect(&table, "ann", now).take_rate(now).is_err());
}

#[test]
fn the_index_of_users_follows() {
    let now = Instant::now();
    let table = Connections::new(limits());
    let namespace = Namespace::new("/").unwrap();
    let user = UserId::new("ann").unwrap();
    let first = connect(&table, "ann", now);
    let second = connect(&table, "ann", now);
    assert_eq!(table.of_user(&namespace, &user), [first.id, second.id]);
    table.remove(&first, now);
    assert_eq!(table.of_user(&namespace, &user), [second.id]);
    table.remove(&second, now);
    assert!(table.of_user(&namespace, &user).is_empty() && table.is_empty());
    table.sweep(now + Duration::from_secs(60));
    assert!(table.user_buckets.is_empty());
}
