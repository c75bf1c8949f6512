//! Connections that belong to one flush at a time.
//!
//! What WATCH watches belongs to a connection, and so does an EXEC that was begun. So these never reconnect by themselves,
//! are never shared, and are used again only after an EXEC that was answered, which leaves nothing behind. Whatever else
//! happens (an error, an answer that is too late or not understood, a future that is dropped), the connection is closed:
//! it is owned by whoever asks, and nobody puts it back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::{AsyncConnectionConfig, Client, Pipeline, RedisResult, Value};

/// Connections that wait to be used again. As many are open as flushes are under way, one per partition at most.
const IDLE_MAX: usize = 64;

pub(super) struct Dedicated {
    client: Client,
    config: AsyncConnectionConfig,
    idle: Mutex<Vec<MultiplexedConnection>>,
}

/// A connection between its two round trips.
pub(super) struct Watching<'a> {
    connection: MultiplexedConnection,
    home: &'a Dedicated,
}

/// What EXEC did.
#[derive(Debug)]
pub(super) enum Executed {
    /// The answers of the commands.
    All(Vec<Value>),
    /// Nothing: a key that is watched was changed.
    Nothing,
}

impl Dedicated {
    pub(super) fn new(client: Client, connect_timeout: Duration, response_timeout: Duration) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_timeout))
            .set_response_timeout(Some(response_timeout));
        Dedicated { client, config, idle: Mutex::default() }
    }

    /// Asks `questions`, WATCH among them, and nothing that changes anything: they are asked again on a new connection
    /// when one that waited turns out to be broken.
    pub(super) async fn watch(&self, questions: &Pipeline) -> RedisResult<(Watching<'_>, Vec<Value>)> {
        let idle = self.lock().pop();
        if let Some(connection) = idle {
            match self.ask(connection, questions).await {
                Err(error) if error.is_io_error() => {
                    // The others are as old as this one.
                    self.lock().clear();
                    if error.is_timeout() {
                        return Err(error);
                    }
                }
                answers => return answers,
            }
        }
        let connection = self.client.get_multiplexed_async_connection_with_config(&self.config).await?;
        self.ask(connection, questions).await
    }

    async fn ask(
        &self,
        mut connection: MultiplexedConnection,
        questions: &Pipeline,
    ) -> RedisResult<(Watching<'_>, Vec<Value>)> {
        let answers = connection.req_packed_commands(questions, 0, questions.len()).await?;
        Ok((Watching { connection, home: self }, answers))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<MultiplexedConnection>> {
        // A list of connections is whole at every instant.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching<'_> {
    /// MULTI, the commands, EXEC.
    ///
    /// # Errors
    /// Of the connection: whether the commands were carried out is unknown. Of the server: nothing was.
    pub(super) async fn execute(mut self, commands: &mut Pipeline) -> RedisResult<Executed> {
        let commands = commands.atomic();
        // Of the answers the last one alone counts; a command that is not even queued makes all of it an error.
        let mut answers = self.connection.req_packed_commands(commands, commands.len() + 1, 1).await?;
        let executed = match answers.pop() {
            Some(Value::Nil) => Executed::Nothing,
            Some(Value::Array(answers)) => Executed::All(answers),
            Some(Value::ServerError(error)) => return Err(error.into()),
            _ => return Err((::redis::ErrorKind::UnexpectedReturnType, "no answer of EXEC").into()),
        };
        let mut idle = self.home.lock();
        if idle.len() < IDLE_MAX {
            idle.push(self.connection);
        }
        Ok(executed)
    }
}
