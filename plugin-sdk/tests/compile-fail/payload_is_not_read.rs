use switchboard_plugin::{Ack, Cx, Plugin, Result};

struct Say {
    _text: String,
}

fn say(_cx: &mut Cx, _say: Say) -> Result<Ack> {
    Ok(Ack::ok())
}

fn main() {
    let _ = Plugin::new("chat").on("say", say);
}
