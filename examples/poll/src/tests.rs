use serde_json::json;
use std::time::Duration;
use switchboard_plugin::TestHost;

#[test]
fn everyone_votes_once_until_the_minute_is_over() {
    let mut host = TestHost::new(crate::plugin());
    let (ann, ben) = (host.connect("ann"), host.connect("ben"));
    host.send_args(&ann, "poll:start", ["lunch", "Where to?"])
        .expect_ok();
    host.send(&ben, "poll:join", "lunch").expect_ok();
    for (user, option) in [(&ann, "here"), (&ben, "here"), (&ben, "there")] {
        host.send_args(user, "poll:vote", ["lunch", option])
            .expect_ok();
    }
    host.advance(Duration::from_secs(59));
    host.expect_silence(&ben);
    host.advance(Duration::from_secs(1));
    let result = json!(["Where to?", { "here": 1, "there": 1 }]);
    assert_eq!(host.take(&ben, "poll:closed"), result);
    host.send_args(&ben, "poll:vote", ["lunch", "here"])
        .expect_error("NOT_FOUND");
}
