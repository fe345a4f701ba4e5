//! Commands: a string split into words like a shell does, or a map. No shell ever runs it.

use pmesh_supervisor::Command;

use crate::{
    elsewhere,
    mistake::quoted,
    report::Report,
    value::{KeyedMap, Value},
    words::{WordsError, bare_characters, raw_words, unquoted},
};

/// Why a text is no command; reads on from "this command …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("has no program; write its words, such as `python3 app.py`")]
    NoProgram,
    #[error("opens a quote and does not close it")]
    OpenQuote,
    #[error("has more than one line; write one, or `sh -c '…'`")]
    ManyLines,
    #[error("has {} in it, which only a shell understands, and none is involved; write `sh -c '…'`", quoted(.0))]
    Shell(String),
    #[error("has {} in it, which is two words to a shell, and none is involved; write `sh -c '…'`, or put the word in quotes", quoted(.0))]
    ShellInside(String),
    #[error(
        "begins with `cd`, which only a shell understands, and none is involved; write `sh -c 'cd … && …'`, or \
         begin with the folder: `@folder program`"
    )]
    ChangeFolder,
    #[error("begins with `{0}`, which only a shell understands, and none is involved; write `sh -c '…'`")]
    BuiltIn(String),
    #[error("has a word that begins with `#`, which a shell takes for a comment; put it in quotes")]
    Comment,
    #[error("names no folder behind `@`")]
    NoFolder,
}

impl From<WordsError> for CommandError {
    fn from(error: WordsError) -> Self {
        match error {
            WordsError::OpenQuote => Self::OpenQuote,
            WordsError::ManyLines => Self::ManyLines,
        }
    }
}

/// Whether `name` can be the name of an environment variable (POSIX.1, 8.1).
pub(crate) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A command from one line, `[@folder] [KEY=value …] program [argument …]`, and its first word that a shell
/// would have made something else of, if there is one. Words are looked at before their quotes are taken off.
pub(crate) fn split(line: &str) -> Result<(Command, Option<&str>), CommandError> {
    let mut command = Command::default();
    let raw_words = raw_words(line)?;
    let program = raw_words.iter().find(|raw| !raw.starts_with('@') && !is_assignment(raw));
    match program {
        Some(&"cd" | &"pushd") => return Err(CommandError::ChangeFolder),
        Some(&raw) if BUILT_IN.contains(&raw) => return Err(CommandError::BuiltIn(raw.to_owned())),
        Some(_) | None => {}
    }
    let mut words = Vec::new();
    for &raw in &raw_words {
        shell_syntax(raw)?;
        if raw.starts_with('#') {
            return Err(CommandError::Comment);
        }
        words.push((raw, unquoted(raw)?));
    }
    // What a shell or an interpreter is given to run is theirs to expand.
    let code = raw_words.iter().position(|raw| raw.starts_with('-') && raw.ends_with(['c', 'e']));
    let has_variable = |at: usize, raw: &str| code.is_none_or(|code| at < code) && expands_in_quotes(raw);
    let mut looked = raw_words.iter().copied().enumerate();
    let unexpanded =
        looked.find(|&(at, raw)| is_unexpanded(raw) || has_variable(at, raw)).map(|(_, raw)| raw);
    let mut words = words.into_iter().peekable();
    if let Some((_, word)) = words.next_if(|(raw, _)| raw.starts_with('@')) {
        let folder = &word[1..];
        if folder.is_empty() {
            return Err(CommandError::NoFolder);
        }
        command.folder = Some(folder.into());
    }
    while let Some((_, word)) = words.next_if(|(raw, _)| is_assignment(raw)) {
        if let Some((name, value)) = word.split_once('=') {
            command.env.insert(name.to_owned(), value.to_owned());
        }
    }
    command.program = words.next().map(|(_, word)| word).ok_or(CommandError::NoProgram)?;
    if command.program.is_empty() {
        return Err(CommandError::NoProgram);
    }
    command.arguments = words.map(|(_, word)| word).collect();
    Ok((command, unexpanded))
}

/// What a shell does itself, so that no program of this name does it (POSIX.1, 2.14). Those that are programs as
/// well (`test`, `echo`, `true`) are not here.
const BUILT_IN: &[&str] = &[
    "export", "source", ".", "exec", "eval", "alias", "unset", "ulimit", "set", "trap", "if", "for", "while",
];

/// Whether a word before the program is one of its variables.
fn is_assignment(raw: &str) -> bool {
    raw.split_once('=').is_some_and(|(name, _)| is_variable(name))
}

/// Whether a shell would have put names of files or a home folder in the place of a word: `*`, `?` or `[a-z]`
/// outside of quotes, or `~` at its beginning.
fn is_unexpanded(raw: &str) -> bool {
    let value = if is_assignment(raw) { raw.split_once('=').map_or(raw, |(_, value)| value) } else { raw };
    // In a URL a `?` is no pattern.
    let is_url = raw.contains("://");
    let bare: Vec<char> = bare_characters(raw).map(|(_, c)| c).collect();
    let range = || {
        let from = bare.iter().position(|&c| c == '[')?;
        let to = bare.iter().rposition(|&c| c == ']')?;
        bare.get(from + 1..to).filter(|inner| inner.contains(&'-'))
    };
    value.starts_with('~') || bare.iter().any(|&c| c == '*' || (c == '?' && !is_url)) || range().is_some()
}

/// Whether a shell would have put a variable's value in double quotes of a word: `"$NAME"`.
fn expands_in_quotes(raw: &str) -> bool {
    let (mut quote, mut escaped) = (None, false);
    raw.char_indices().any(|(index, c)| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match c {
            '\\' => escaped = quote != Some('\''),
            '\'' | '"' if quote.is_none() => quote = Some(c),
            _ if quote == Some(c) => quote = None,
            '$' => return quote == Some('"') && is_expanded(raw, index),
            _ => {}
        }
        false
    })
}

/// Whether a shell expands what begins with the `$` at `index`.
fn is_expanded(raw: &str, index: usize) -> bool {
    let rest = &raw[index + 1..];
    let end = rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
    rest.starts_with(['{', '(']) || is_variable(&rest[..end.unwrap_or(rest.len())])
}

/// Finds what in a word is meant for a shell: `&&`, `||`, `|`, `;`, redirections, and `$NAME`, `${…}`, `$(…)`
/// and backquotes outside of quotes. What may be an argument passes: `x>=1.0`, `a=b&c`, the `;` in a URL.
fn shell_syntax(raw: &str) -> Result<(), CommandError> {
    const OPERATORS: &[&str] =
        &["&&", "||", "|", ";", "&", ">", ">>", "<", "<<", "<<<", "2>", "2>>", "&>", "2>&1", "1>&2", ">&2"];
    if OPERATORS.contains(&raw) || raw.starts_with(['`', '>', '|', ';']) || raw.starts_with("</") {
        return Err(CommandError::Shell(raw.to_owned()));
    }
    let is_url = raw.contains("://");
    for (index, c) in bare_characters(raw) {
        let (before, behind) = (&raw[..index], &raw[index + c.len_utf8()..]);
        let is_syntax = match c {
            '|' => true,
            '&' => behind.starts_with('&'),
            ';' => !is_url,
            '>' => !behind.starts_with('=') && !before.ends_with(['=', '-']),
            _ => false,
        };
        if is_syntax {
            return Err(CommandError::ShellInside(raw.to_owned()));
        }
    }
    if bare_characters(raw).any(|(index, c)| c == '$' && is_expanded(raw, index)) {
        return Err(CommandError::Shell(raw.to_owned()));
    }
    Ok(())
}

const WANTED: &str = "a command: one line, or a map of cwd, exec, args, env";

/// The command in `value`.
pub(crate) fn command(value: &Value, report: &mut Report<'_>) -> Option<Command> {
    if value.is_map() {
        return from_map(value, report);
    }
    match split(value.raw_text(report, WANTED)?) {
        Ok((command, unexpanded)) => {
            if let Some(word) = unexpanded {
                let quotes = if expands_in_quotes(word) { "single quotes" } else { "quotes" };
                let message = format!(
                    "no shell is involved, so the program gets {} as it stands; put it in {quotes} if that is \
                     meant, or write `sh -c '…'`",
                    quoted(word)
                );
                report.warning(value.place, &value.path, message);
            }
            Some(command)
        }
        Err(error) => {
            value.mistake(report, format!("this command {error}"));
            None
        }
    }
}

/// The commands in `value`: one, or a list of them.
pub(crate) fn commands(value: &Value, report: &mut Report<'_>) -> Vec<Command> {
    if value.is_null() && value.tag().is_none() {
        return Vec::new();
    }
    value.one_or_many().iter().filter_map(|item| command(item, report)).collect()
}

fn from_map(value: &Value, report: &mut Report<'_>) -> Option<Command> {
    let mut table = KeyedMap::of(value, report, WANTED);
    let mut command = Command::default();
    if let Some(folder) = table.take("cwd")
        && let Some(text) = folder.text(report, "a folder")
    {
        if text.is_empty() {
            folder.expected(report, "a folder");
        }
        command.folder = Some(text.into());
    }
    let exec = table.take("exec");
    match &exec {
        None => value.mistake(report, "this command has no `exec`, the program".to_owned()),
        Some(exec) => match exec.raw_text(report, "a program") {
            Some("") => exec.expected(report, "a program"),
            program => program.unwrap_or_default().clone_into(&mut command.program),
        },
    }
    if let Some(args) = table.take("args") {
        for item in args.items(report, "a list of words").unwrap_or_default() {
            if item.is_null() && item.tag().is_none() {
                item.mistake(report, "expected a word, found nothing; an empty one is \"\"".to_owned());
            } else {
                command.arguments.extend(item.raw_text(report, "a word").map(str::to_owned));
            }
        }
    }
    if let Some(env) = table.take("env") {
        command.env = environment(&env, report);
    }
    table.end_with(elsewhere::COMMAND, report);
    (!command.program.is_empty()).then_some(command)
}

/// A map of environment variables. A value is its text, and nothing is an empty one.
pub(crate) fn environment(
    value: &Value,
    report: &mut Report<'_>,
) -> std::collections::BTreeMap<String, String> {
    let env = value.texts(report, "a map of names to values", |name| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("{} cannot be the name of a variable", quoted(name)));
        }
        Ok(())
    });
    if environment_bytes(&env) > MAX_ENV_BYTES {
        value.mistake(report, format!("an environment of more than {MAX_ENV_BYTES} bytes"));
    }
    env
}

/// What an environment takes, in bytes (execve(2)).
pub(crate) fn environment_bytes(env: &std::collections::BTreeMap<String, String>) -> usize {
    env.iter().map(|(name, value)| name.len() + value.len() + 2).sum()
}

/// The most that the environments of all services take together, each with its copy of the manifest's.
pub(crate) const MAX_ALL_ENV_BYTES: usize = 16 << 20;

/// The largest environment that one key may declare: the kernel takes no single variable above
/// this (`MAX_ARG_STRLEN`, execve(2)), and every service has a copy of the manifest's.
pub(crate) const MAX_ENV_BYTES: usize = 128 * 1024;
