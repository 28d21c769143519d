use switchboard_plugin::{Ack, Cx, Plugin, Result};

fn say(_cx: &mut Cx, _a: u8, _b: u8, _c: u8, _d: u8, _e: u8) -> Result<Ack> {
    Ok(Ack::ok())
}

fn main() {
    let _ = Plugin::new("chat").on("say", say);
}
