//! What a handler of a route can say besides the name of a service.

use http::StatusCode;
use pmesh_proxy::Handler;

use crate::{
    elsewhere::{self, Ours},
    mistake::{KnownWord, quoted},
    not_served::Feature,
    report::Report,
    scalar::{self, Span},
    value::Value,
    words::{WordsError, raw_words, unquoted},
};

/// A directive of the format.
pub(crate) struct Directive {
    pub(crate) word: &'static str,
    /// How it is written.
    pub(crate) usage: &'static str,
    kind: DirectiveKind,
}

/// What is checked of a directive, and what comes of it.
#[derive(Clone, Copy)]
enum DirectiveKind {
    /// It is served.
    Return,
    Status,
    Redirect,
    /// It is known and not served, and takes so many words; any number where the format does not say yet how many.
    Later {
        least: usize,
        most: usize,
    },
    /// It is known and not served. It may end a request, so where it is left out the request must not pass.
    Guard {
        least: usize,
        most: usize,
    },
    LaterDuration,
    LaterSize,
    LaterRewrite,
    LaterLimit,
    /// A guard with a secret behind it, which no message shows.
    LaterAuth,
}

use DirectiveKind::{Guard, Later, LaterAuth, LaterDuration, LaterLimit, LaterRewrite, LaterSize};

const fn directive(word: &'static str, usage: &'static str, kind: DirectiveKind) -> Directive {
    Directive { word, usage, kind }
}

/// Every directive, in the order of the document.
pub(crate) const DIRECTIVES: &[Directive] = &[
    directive("return", "return CODE \"text\"", DirectiveKind::Return),
    directive("status", "status CODE", DirectiveKind::Status),
    directive("redirect", "redirect \"url\"", DirectiveKind::Redirect),
    directive("debug", "debug \"text\"", Later { least: 1, most: 1 }),
    directive("log", "log \"text\"", Later { least: 1, most: 1 }),
    directive("warn", "warn \"text\"", Later { least: 1, most: 1 }),
    directive("err", "err \"text\"", Later { least: 1, most: 1 }),
    directive("proxy-host", "proxy-host …", Later { least: 0, most: usize::MAX }),
    directive("path", "path …", Later { least: 0, most: usize::MAX }),
    directive("path-join", "path-join …", Later { least: 0, most: usize::MAX }),
    directive("path-ljoin", "path-ljoin …", Later { least: 0, most: usize::MAX }),
    directive("path-trim", "path-trim …", Later { least: 0, most: usize::MAX }),
    directive("path-ltrim", "path-ltrim …", Later { least: 0, most: usize::MAX }),
    directive("rewrite", "rewrite RE REPL", LaterRewrite),
    directive("header", "header …", Later { least: 0, most: usize::MAX }),
    directive("add-header", "add-header …", Later { least: 0, most: usize::MAX }),
    directive("del-header", "del-header …", Later { least: 0, most: usize::MAX }),
    directive("proxy-header", "proxy-header …", Later { least: 0, most: usize::MAX }),
    directive("add-proxy-header", "add-proxy-header …", Later { least: 0, most: usize::MAX }),
    directive("del-proxy-header", "del-proxy-header …", Later { least: 0, most: usize::MAX }),
    directive("abort", "abort", Guard { least: 0, most: 0 }),
    directive("drop", "drop", Guard { least: 0, most: 0 }),
    directive("internal", "internal", Guard { least: 0, most: 0 }),
    directive("allow-internal", "allow-internal", Guard { least: 0, most: 0 }),
    directive("portal", "portal URL", Later { least: 1, most: 1 }),
    directive("read-timeout", "read-timeout DURATION", LaterDuration),
    directive("write-timeout", "write-timeout DURATION", LaterDuration),
    directive("max-body", "max-body SIZE", LaterSize),
    directive("hook", "hook NAME", Guard { least: 1, most: 1 }),
    directive("auth", "auth REALM user:password", LaterAuth),
    directive(
        "limit",
        "limit [@id] RATE [burst=N] [block_after=RATE] [block_for=DURATION] [advise=BOOL]",
        LaterLimit,
    ),
    directive("publish", "publish …", Later { least: 0, most: usize::MAX }),
];

impl Directive {
    pub(crate) fn named(word: &str) -> Option<&'static Self> {
        DIRECTIVES.iter().find(|directive| directive.word == word)
    }

    pub(crate) fn is_served(&self) -> bool {
        matches!(self.kind, DirectiveKind::Return | DirectiveKind::Status | DirectiveKind::Redirect)
    }
}

/// What becomes of a handler that is a directive.
pub(crate) enum DirectiveOutcome {
    Handler(Handler),
    /// It is left out, and what stands behind it goes on.
    LeftOut,
    /// It is left out, and a request that reaches it is refused.
    Closed,
}

/// Reads the words of a handler; none if they cannot be split, and then the report says so.
pub(crate) fn words(value: &Value, text: &str, report: &mut Report<'_>) -> Option<Vec<String>> {
    let words: Result<Vec<String>, WordsError> =
        raw_words(text).and_then(|raw| raw.into_iter().map(unquoted).collect());
    match words {
        Ok(words) if !words.is_empty() => Some(words),
        Ok(_) => {
            value.expected(report, "a service, a directive or a list of routes");
            None
        }
        Err(error) => {
            value.mistake(report, format!("this handler {error}"));
            None
        }
    }
}

/// Reads a directive with the words behind it.
pub(crate) fn read(
    directive: &Directive,
    arguments: &[String],
    value: &Value,
    report: &mut Report<'_>,
) -> DirectiveOutcome {
    let later = |good: bool, outcome: DirectiveOutcome, report: &mut Report<'_>| {
        if !good {
            value.expected(report, &format!("`{}`", directive.usage));
        }
        report.not_served_text(value.place, &value.path, &format!("`{}`", directive.word));
        outcome
    };
    let within = |least: usize, most: usize| (least..=most).contains(&arguments.len());
    match directive.kind {
        DirectiveKind::Return | DirectiveKind::Status | DirectiveKind::Redirect => {
            match served(directive.kind, arguments) {
                Ok(handler) => return DirectiveOutcome::Handler(handler),
                Err(Wrong::Usage) => value.expected(report, &format!("`{}`", directive.usage)),
                Err(Wrong::Code(code)) => value.mistake(
                    report,
                    format!(
                        "expected a status from 200 to 599 in `{}`, found {}",
                        directive.usage,
                        quoted(code)
                    ),
                ),
                Err(Wrong::Later(feature)) => value.not_served(report, feature),
                Err(Wrong::Words) => value.mistake(
                    report,
                    format!("more words than `{}` takes; put the text in quotes", directive.usage),
                ),
            }
            DirectiveOutcome::LeftOut
        }
        Later { least, most } => later(within(least, most), DirectiveOutcome::LeftOut, report),
        Guard { least, most } => later(within(least, most), DirectiveOutcome::Closed, report),
        LaterDuration => {
            let good = matches!(arguments, [time] if scalar::duration(time).is_ok());
            later(good, DirectiveOutcome::LeftOut, report)
        }
        LaterSize => {
            let good = matches!(arguments, [size] if scalar::size(size).is_ok());
            later(good, DirectiveOutcome::LeftOut, report)
        }
        LaterRewrite => {
            let good = matches!(arguments, [expression, _] if report.expressions.check(expression).is_ok());
            later(good, DirectiveOutcome::LeftOut, report)
        }
        LaterLimit => later(is_limit(arguments), DirectiveOutcome::LeftOut, report),
        LaterAuth => {
            if arguments.len() < 2 {
                let found = format!("`{}` and {}", directive.word, counted(arguments.len()));
                value.mistake(report, format!("expected `{}`, found {found}", directive.usage));
            }
            later(true, DirectiveOutcome::Closed, report)
        }
    }
}

fn counted(words: usize) -> String {
    format!("{words} more word{}", if words == 1 { "" } else { "s" })
}

enum Wrong<'a> {
    Usage,
    Code(&'a str),
    Words,
    Later(Feature),
}

fn served(kind: DirectiveKind, arguments: &[String]) -> Result<Handler, Wrong<'_>> {
    // An answer ends with its final status; 1xx are none (RFC 9110, 15.2).
    let code = |code| status(code).ok_or(Wrong::Code(code));
    match (kind, arguments) {
        (DirectiveKind::Return, [text]) => Ok(Handler::Return { status: code(text)?, text: String::new() }),
        (DirectiveKind::Return, [number, text]) => {
            Ok(Handler::Return { status: code(number)?, text: text.clone() })
        }
        (DirectiveKind::Status, [text]) => Ok(Handler::Status(code(text)?)),
        (DirectiveKind::Redirect, [url]) if is_location(url) => Ok(Handler::Redirect(url.clone())),
        (DirectiveKind::Redirect, [code, url])
            if is_location(url) && matches!(code.as_str(), "301" | "302" | "303" | "307" | "308") =>
        {
            Err(Wrong::Later(Feature::RedirectCode))
        }
        (DirectiveKind::Return | DirectiveKind::Redirect, [_, _, ..]) => Err(Wrong::Words),
        _ => Err(Wrong::Usage),
    }
}

fn status(text: &str) -> Option<StatusCode> {
    let code = StatusCode::from_bytes(text.as_bytes()).ok()?;
    (200..600).contains(&code.as_u16()).then_some(code)
}

/// Whether a text can stand in a `Location` field: visible ASCII (RFC 3986, 2).
fn is_location(url: &str) -> bool {
    !url.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_limit(arguments: &[String]) -> bool {
    let mut words = arguments.iter().peekable();
    words.next_if(|word| word.len() > 1 && word.starts_with('@'));
    words.next().is_some_and(|rate| scalar::rate(rate).is_ok())
        && words.all(|word| match word.split_once('=') {
            Some(("burst", count)) => count.parse::<u32>().is_ok(),
            Some(("block_after", rate)) => scalar::rate(rate).is_ok(),
            Some(("block_for", time)) => matches!(scalar::duration(time), Ok(Span::For(_))),
            Some(("advise", flag)) => matches!(flag, "true" | "false"),
            _ => false,
        })
}

/// Says that `word` is neither a service nor a directive.
pub(crate) fn unknown<'a>(
    word: &str,
    services: impl Iterator<Item = &'a str>,
    value: &Value,
    report: &mut Report<'_>,
) {
    let message = format!("{} is neither a service nor a directive", quoted(word));
    if let Some(Ours::Told(told)) = elsewhere::find(elsewhere::HANDLER, word) {
        value.mistake(report, format!("{message}; {told}"));
        return;
    }
    if report.is_full() {
        return;
    }
    let directives =
        DIRECTIVES.iter().map(|directive| KnownWord { word: directive.word, served: directive.is_served() });
    let known: Vec<KnownWord<'_>> = services.map(KnownWord::served).chain(directives).collect();
    report.mistake_with(value.place, &value.path, message, |near_misses| {
        near_misses.did_you_mean_one_of(word, &known)
    });
}
