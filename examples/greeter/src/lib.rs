//! The smallest plugin that does something: whoever says hello is greeted, and the others hear of it.

use serde::Deserialize;
use switchboard_plugin::{Ack, Cx, Plugin, Result, export};

#[derive(Deserialize)]
struct Hello {
    name: String,
}

fn hello(cx: &mut Cx, hello: Hello) -> Result<Ack> {
    let greeting = format!("Hello, {}!", hello.name);
    cx.emit("greeted")
        .to_everyone()
        .except_self()
        .send(&greeting)?;
    Ack::with(&serde_json::json!({ "greeting": greeting }))
}

fn plugin() -> Plugin {
    Plugin::new("greeter")
        .version(env!("CARGO_PKG_VERSION"))
        .on("hello", hello)
}

export!(plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use switchboard_plugin::TestHost;

    #[test]
    fn others_hear_who_was_greeted() {
        let mut host = TestHost::new(plugin());
        let ann = host.connect("ann");
        let ben = host.connect("ben");
        let answer = host
            .send(&ann, "hello", json!({ "name": "Ann" }))
            .expect_ok();
        assert_eq!(answer, json!({ "ok": true, "greeting": "Hello, Ann!" }));
        assert_eq!(host.take(&ben, "greeted"), json!("Hello, Ann!"));
        host.expect_silence(&ann);
        let message = host
            .send(&ann, "hello", json!({}))
            .expect_error("INVALID_PAYLOAD");
        assert_eq!(message, "argument 1: missing field `name`");
    }
}
