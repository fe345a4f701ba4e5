//! The whole API as data, and which route a path is.

use std::fmt;

use futures_util::future::BoxFuture;
use http::Method;

use crate::{
    calls::{Call, Reply, logs, operation, repo, server, service, session},
    error::{ApiError, Code},
    parameters::Parameter,
    percent,
    sources::Sources,
};

/// One route: a path, who may ask for it how, and what it may be told.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct ApiRoute {
    /// The path; a segment in braces stands for any text that is not empty.
    pub pattern: &'static str,
    /// Whether it changes anything, and the methods that it therefore answers.
    pub kind: RouteKind,
    /// What it may be told beside `pretty`.
    pub parameters: &'static [Parameter],
    pub(crate) run: RouteHandler,
}

/// What answers a call.
pub(crate) type RouteHandler = fn(Sources, Call) -> BoxFuture<'static, Result<Reply, ApiError>>;

/// Whether a route changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// It tells something.
    Read,
    /// It changes something.
    Action,
    /// It changes something, and answers GET as well, because published examples use it.
    ActionByGetToo,
}

impl RouteKind {
    /// The methods that it answers, as `Allow` lists them (RFC 9110, 10.2.1).
    pub fn methods(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD",
            Self::Action => "POST",
            Self::ActionByGetToo => "GET, POST",
        }
    }

    /// Whether it answers `method`.
    pub fn answers(self, method: &Method) -> bool {
        self.methods().split(", ").any(|name| name == method.as_str())
    }
}

impl fmt::Debug for ApiRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, kind, parameters, run: _ } = self;
        f.debug_struct("ApiRoute")
            .field("pattern", pattern)
            .field("kind", kind)
            .field("parameters", parameters)
            .finish_non_exhaustive()
    }
}

macro_rules! routes {
    ($($kind:ident $pattern:literal [$($parameter:ident),*] => $run:path;)+) => {
        &[$(ApiRoute {
            pattern: $pattern,
            kind: RouteKind::$kind,
            parameters: &[$(Parameter::$parameter),*],
            run: |sources, call| Box::pin($run(sources, call)),
        }),+]
    };
}

/// The whole API, in the order of `docs/api.md`; a test compares the two.
pub const ROUTES: &[ApiRoute] = routes! {
    Read           "/repo"                  [Fetch]            => repo::show;
    Action         "/repo/fetch"            []                 => repo::fetch;
    ActionByGetToo "/repo/update"           [Invalidate, Wait] => repo::update;
    ActionByGetToo "/reload"                [Invalidate, Wait] => server::reload;
    Read           "/service"               []                 => service::list;
    ActionByGetToo "/service/stop"          [Wait]             => service::stop_all;
    ActionByGetToo "/service/stop/{svc}"    [Wait]             => service::stop_one;
    ActionByGetToo "/service/restart"       [Invalidate, Wait] => service::restart_all;
    ActionByGetToo "/service/restart/{svc}" [Invalidate, Wait] => service::restart_one;
    Read           "/service/health"        []                 => service::health_of_all;
    Read           "/service/health/{svc}"  []                 => service::health_of_one;
    Read           "/service/metrics"       []                 => service::metrics_of_all;
    Read           "/service/metrics/{svc}" []                 => service::metrics_of_one;
    Action         "/service/run/{svc}"     []                 => service::run_one;
    Read           "/session"               [Limit, Sort]      => session::list;
    Read           "/operation"             [Wait]             => operation::list;
    Read           "/operation/{id}"        [Wait]             => operation::show;
    Action         "/operation/{id}/cancel" []                 => operation::cancel;
    Read           "/logs"                  [Lines, Since, Instance, Follow, Raw] => logs::of_all;
    Read           "/logs/{svc}"            [Lines, Since, Instance, Follow, Raw] => logs::of_some;
    Read           "/ping"                  []                 => server::ping;
    Read           "/version"               []                 => server::version;
    Action         "/shutdown"              [Wait]             => server::shut_down;
};

/// The route of a path, and the text of the segment that its pattern leaves open, if it leaves one.
///
/// Each segment is percent-decoded, once. A slash at the end does not count, but where a name would
/// stand after it in the path of an action: a script whose variable is empty must not act on
/// everything.
pub(crate) fn find(path: &str) -> Result<(&'static ApiRoute, Option<String>), ApiError> {
    let segments: Vec<String> = path
        .split('/')
        .skip(1)
        .map(percent::decode)
        .collect::<Result<_, _>>()
        .map_err(|error| ApiError::new(Code::BadRequest, format!("cannot read the path: {error}")))?;
    if let Some(route) = ROUTES.iter().find(|route| lacks_its_name(route, &segments)) {
        let all = route.pattern.rsplit_once('/').map_or(route.pattern, |(all, _)| all);
        let message =
            format!("a service's name is missing after {all}/; without the slash it means all services");
        return Err(ApiError::new(Code::ServiceNameMissing, message));
    }
    let segments = match segments.as_slice() {
        [segments @ .., last] if last.is_empty() => segments,
        segments => segments,
    };
    ROUTES
        .iter()
        .find_map(|route| Some((route, matched(route, segments)?)))
        .ok_or_else(|| ApiError::new(Code::RouteNotFound, "no such route; docs/api.md lists them all"))
}

fn is_open(segment: &str) -> bool {
    segment.starts_with('{')
}

/// Whether `segments` match: the outer `None` is "no match", the inner one "a match, and the pattern has no open segment".
#[expect(clippy::option_option, reason = "the outer one is the match, the inner one the open segment")]
fn matched(route: &ApiRoute, segments: &[String]) -> Option<Option<String>> {
    let pattern: Vec<&str> = route.pattern.split('/').skip(1).collect();
    if pattern.len() != segments.len() {
        return None;
    }
    let mut open = None;
    for (pattern, segment) in pattern.into_iter().zip(segments) {
        match is_open(pattern) {
            true if segment.is_empty() => return None,
            true => open = Some(segment.clone()),
            false if pattern != segment => return None,
            false => {}
        }
    }
    Some(open)
}

/// Whether these are the segments of an action on one service, with nothing where the name belongs.
fn lacks_its_name(route: &ApiRoute, segments: &[String]) -> bool {
    let pattern: Vec<&str> = route.pattern.split('/').skip(1).collect();
    let Some((open, literals)) = pattern.split_last() else { return false };
    route.kind != RouteKind::Read
        && is_open(open)
        && segments.len() > literals.len()
        && segments.iter().zip(literals).all(|(segment, literal)| segment == literal)
        && segments[literals.len()..].iter().all(String::is_empty)
}

#[cfg(test)]
mod tests {
    use super::{Code, Method, ROUTES, RouteKind, find};

    fn found(path: &str) -> Result<(&'static str, Option<String>), Code> {
        find(path).map(|(route, open)| (route.pattern, open)).map_err(|error| error.code)
    }

    #[test]
    fn every_pattern_is_found_by_its_own_path() {
        for route in ROUTES {
            let path = route.pattern.replace("{svc}", "web").replace("{id}", "7");
            let names = [("{svc}", "web"), ("{id}", "7")];
            let open = names.iter().find(|(open, _)| route.pattern.contains(open));
            let open = open.map(|&(_, name)| name.to_owned());
            assert_eq!(found(&path), Ok((route.pattern, open.clone())));
            let with_slash = found(&format!("{path}/"));
            if ["/service/stop", "/service/restart"].contains(&route.pattern) {
                assert_eq!(with_slash, Err(Code::ServiceNameMissing));
            } else {
                assert_eq!(with_slash, Ok((route.pattern, open)), "{path}/");
            }
        }
    }

    #[test]
    fn a_name_is_decoded_once() {
        assert_eq!(found("/service/stop/w%65b"), Ok(("/service/stop/{svc}", Some("web".into()))));
        assert_eq!(found("/service/stop/a%2Fb"), Ok(("/service/stop/{svc}", Some("a/b".into()))));
        assert_eq!(found("/service/stop/%2565"), Ok(("/service/stop/{svc}", Some("%65".into()))));
        assert_eq!(found("/%72epo"), Ok(("/repo", None)));
    }

    #[test]
    fn an_empty_name_never_means_all_services() {
        for verb in ["stop", "restart"] {
            for slashes in ["/", "//", "///"] {
                assert_eq!(found(&format!("/service/{verb}{slashes}")), Err(Code::ServiceNameMissing));
            }
            for path in
                [format!("/service/{verb}//web"), format!("//service/{verb}"), format!("/service//{verb}")]
            {
                assert_eq!(found(&path), Err(Code::RouteNotFound), "{path}");
            }
        }
    }

    #[test]
    fn other_paths_are_no_routes() {
        for path in [
            "/",
            "",
            "*",
            "/nope",
            "/repo/",
            "/repo//",
            "//repo",
            "/Repo",
            "/repo/update/x",
            "/service/web",
            "/service/stop/a/b",
            "/operation/7/cancel/now",
            "/repo/../repo",
        ] {
            let expected = if path == "/repo/" { Ok(("/repo", None)) } else { Err(Code::RouteNotFound) };
            assert_eq!(found(path), expected, "{path}");
        }
        for path in ["/%", "/service/stop/%zz", "/service/health/%ff"] {
            assert_eq!(found(path), Err(Code::BadRequest), "{path}");
        }
    }

    #[test]
    fn only_four_actions_and_their_variants_answer_get() {
        let get_too: Vec<_> = ROUTES
            .iter()
            .filter(|route| route.kind == RouteKind::ActionByGetToo)
            .map(|route| route.pattern)
            .collect();
        assert_eq!(
            get_too,
            [
                "/repo/update",
                "/reload",
                "/service/stop",
                "/service/stop/{svc}",
                "/service/restart",
                "/service/restart/{svc}"
            ]
        );
    }

    #[test]
    fn a_kind_answers_the_methods_that_it_lists_and_no_other() {
        assert!(RouteKind::Read.answers(&Method::HEAD) && !RouteKind::Read.answers(&Method::POST));
        assert!(RouteKind::Action.answers(&Method::POST) && !RouteKind::Action.answers(&Method::GET));
        assert!(
            RouteKind::ActionByGetToo.answers(&Method::GET)
                && !RouteKind::ActionByGetToo.answers(&Method::HEAD)
        );
        for kind in [RouteKind::Read, RouteKind::Action, RouteKind::ActionByGetToo] {
            for method in [Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH, Method::TRACE] {
                assert!(!kind.answers(&method));
            }
        }
    }
}
