use switchboard_plugin::{Cx, Plugin};

fn say(_cx: &mut Cx, _text: String) {}

fn main() {
    let _ = Plugin::new("chat").on("say", say);
}
