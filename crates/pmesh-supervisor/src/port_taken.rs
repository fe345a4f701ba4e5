//! Which port an instance wanted to listen on that somebody else has, by the lines that it wrote before it ended.

/// What programs write then, in small letters: the system's words, and gunicorn's.
const IN_USE: [&str; 4] = ["eaddrinuse", "address already in use", "address in use", "connection in use"];

/// How many numbers of a line are looked up.
const MOST: usize = 4;

/// The ports that the newest such line may name, the likeliest first; none if no line says that an address is in use. It names
/// none in the words of Python's standard library.
pub(crate) fn named(lines: &[String]) -> Option<Vec<u16>> {
    let line = lines
        .iter()
        .rev()
        .map(|line| line.to_lowercase())
        .find(|line| IN_USE.iter().any(|words| line.contains(words)))?;
    // Times of day stand at the beginning of a line, and ports behind addresses.
    let mut ports: Vec<u16> = numbers(&line).filter(|&port| port != 0).collect();
    ports.reverse();
    ports.dedup();
    ports.truncate(MOST);
    Some(ports)
}

/// The numbers that stand where ports do: `127.0.0.1:3000`, `('127.0.0.1', 3000)`, `port 3000`.
fn numbers(line: &str) -> impl Iterator<Item = u16> {
    let is_digit = |c: char| c.is_ascii_digit();
    line.match_indices(is_digit).filter_map(move |(at, _)| {
        let (before, rest) = line.split_at(at);
        let is_behind = [":", "', ", "\", ", "port "].iter().any(|mark| before.ends_with(mark));
        let end = rest.find(|c| !is_digit(c)).unwrap_or(rest.len());
        rest[..end].parse().ok().filter(|_| is_behind)
    })
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn the_port_is_found_in_the_words_of_many_programs() {
        for (line, ports) in [
            ("Error: listen EADDRINUSE: address already in use 127.0.0.1:3000", &[3000][..]),
            ("Error: listen EADDRINUSE: address already in use :::3000", &[3000]),
            ("2026/01/02 12:30:45 listen tcp :8080: bind: address already in use", &[8080, 45, 30]),
            ("OSError: [Errno 98] Address already in use", &[]),
            ("[ERROR] Connection in use: ('127.0.0.1', 8000)", &[8000]),
            (
                "ERROR: [Errno 98] error while attempting to bind on address ('::', 8000): address already in use",
                &[8000],
            ),
            ("Address already in use - bind(2) for \"127.0.0.1\" port 3000 (Errno::EADDRINUSE)", &[3000]),
            ("nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)", &[80]),
            ("address already in use 127.0.0.1:99999", &[]),
        ] {
            let lines = ["before 127.0.0.1:1".to_owned(), line.to_owned(), "behind 127.0.0.1:2".to_owned()];
            assert_eq!(named(&lines).unwrap(), ports, "{line}");
        }
        assert_eq!(named(&["listens on 127.0.0.1:3000".to_owned()]), None);
        assert_eq!(named(&[]), None);
    }
}
