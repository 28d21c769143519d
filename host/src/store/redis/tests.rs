use super::{RedisStore, server::Server};

async fn own() -> (RedisStore, Server) {
    let server = Server::start(&[]);
    let store = RedisStore::open(&server.config()).await.unwrap();
    (store, server)
}

crate::store::suite::suite!(super::own().await);
