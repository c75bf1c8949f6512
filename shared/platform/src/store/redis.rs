//! The speed store on Redis.
#[derive(Debug)]
pub struct RedisStore;
#[derive(Debug)]
pub struct RedisOptions;
