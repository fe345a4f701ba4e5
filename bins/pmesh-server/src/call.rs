//! Calls of the API of a server that runs, and what the exit code is when one has no good answer.

use std::process::ExitCode;

use pmesh_api::{
    client::{Answer, Client, ClientError},
    wire::Named,
};
use pmesh_node::in_one_line;
use serde_json::Value;

use crate::terminal::{complain, harmless};

/// Why a command has not done what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no whole answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The answer is an error.
    #[error("{0}")]
    Refused(String),
}

impl CallError {
    /// Says it on stderr, and tells the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Client(error) if is_no_server(error) => {
                let remedy = "start one with `pmesh-server run`, or say where it is with --url";
                complain(&harmless(&format!("{}; {remedy}", in_one_line(self))));
                ExitCode::from(crate::exit_code::NO_SERVER)
            }
            Self::Client(_) | Self::Refused(_) => {
                complain(&harmless(&in_one_line(self)));
                ExitCode::FAILURE
            }
        }
    }
}

/// Whether nothing answered, or nothing that is a pmesh server.
pub(crate) fn is_no_server(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::NotOurs { .. } | ClientError::Stranger { .. } => true,
        ClientError::BrokenOff { source, .. } => source.is_parse(),
        ClientError::TooLarge { .. } | ClientError::BadPath { .. } => false,
    }
}

/// Calls a read; the answer is no error.
pub(crate) async fn read(client: &Client, path_and_query: &str) -> Result<Answer, CallError> {
    accept(client.get(path_and_query).await?)
}

/// Calls an action; the answer is no error.
pub(crate) async fn act(client: &Client, path: &str, parameters: Value) -> Result<Answer, CallError> {
    accept(client.post(path, parameters).await?)
}

/// The answer, unless it is an error.
pub(crate) fn accept(answer: Answer) -> Result<Answer, CallError> {
    match answer.error()? {
        None => Ok(answer),
        Some(_) => Err(CallError::Refused(refusal(&answer.json()?))),
    }
}

/// What the body of an error says to a person: its sentence, and the reasons of the services that
/// failed, unless the sentence has them already.
pub(crate) fn refusal(body: &Value) -> String {
    let mut text = body["error"].as_str().unwrap_or("the server gives no reason").to_owned();
    let services: Named<String> = serde_json::from_value(body["services"].clone()).unwrap_or_default();
    for (service, reason) in services.0 {
        if !text.contains(&reason) {
            text.extend(["\n  ", &service, ": ", &reason.replace('\n', "\n    ")]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::refusal;

    #[test]
    fn a_refusal_is_the_sentence_and_the_reasons_that_it_does_not_have() {
        assert_eq!(
            refusal(&json!({"error": "no service \"nope\"", "code": "service_not_found"})),
            "no service \"nope\""
        );
        let body = json!({
            "error": "service web failed: exit code 1",
            "code": "rollout_failed",
            "services": {"web": "exit code 1", "api": "not ready in 5 s\nlast line"},
        });
        assert_eq!(refusal(&body), "service web failed: exit code 1\n  api: not ready in 5 s\n    last line");
        assert_eq!(refusal(&json!([])), "the server gives no reason");
    }
}
