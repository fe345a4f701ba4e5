//! `docs/api.md` and the code say the same.

use pmesh_api::{ApiRoute, Code, ROUTES, RouteKind};

const DOCUMENT: &str = include_str!("../../../../docs/api.md");

fn heading(route: &ApiRoute) -> String {
    let kind = match route.kind {
        RouteKind::Read => "read",
        RouteKind::Action => "action",
        RouteKind::ActionByGetToo => "action, GET too",
    };
    let parameters: Vec<_> =
        route.parameters.iter().map(|parameter| format!("`{}`", parameter.name())).collect();
    let separator = if parameters.is_empty() { "" } else { "; " };
    format!("### `{}` ({kind}{separator}{})", route.pattern, parameters.join(", "))
}

#[test]
fn the_document_has_a_section_for_each_route_in_the_order_of_the_table() {
    let headings: Vec<_> = DOCUMENT.lines().filter(|line| line.starts_with("### `/")).collect();
    let expected: Vec<_> = ROUTES.iter().map(heading).collect();
    assert_eq!(headings, expected);
}

#[test]
fn every_route_has_an_example_and_the_shape_of_its_answer() {
    for section in DOCUMENT.split("\n### `/").skip(1) {
        let name = section.lines().next().unwrap_or_default();
        let (_, example) = section.split_once("\n```sh\n").unwrap_or_else(|| panic!("{name} has no example"));
        let (example, rest) = example.split_once("\n```\n").unwrap();
        assert!(example.contains("curl -s ") && example.contains("\"$API/"), "{name}: {example}");
        let (_, answer) = rest.split_once("\n```json\n").unwrap_or_else(|| panic!("{name} has no answer"));
        let (answer, _) = answer.split_once("\n```\n").unwrap();
        serde_json::from_str::<serde_json::Value>(answer).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn the_table_of_codes_is_that_of_the_code() {
    let (_, table) = DOCUMENT.split_once("\n## Codes\n").unwrap();
    let rows: Vec<(u16, &str)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            Some((cells.next()?.parse().ok()?, cells.next()?.trim_matches('`')))
        })
        .collect();
    let expected: Vec<_> = Code::ALL.iter().map(|code| (code.status().as_u16(), code.as_str())).collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_guide_says_the_limits_of_operations_and_of_the_api() {
    use pmesh_api::{Api, serve};
    let guide = include_str!("../../../../docs/operations.md");
    for row in [
        format!("| operations that wait | {}, then 503 `busy` |", pmesh_node::QUEUE_LIMIT),
        format!("| operations that are remembered | {} |", pmesh_node::HISTORY_LIMIT),
        format!(
            "| API connections | {} per listener, {} of one user or address; {} more that wait for operations; each a \
             sixteenth of the descriptors at most; a body has at most {} KiB; an answer that rests for {} s is closed |",
            serve::MAX_CONNECTIONS,
            serve::MAX_CONNECTIONS / 2,
            Api::MAX_WAITING,
            Api::MAX_BODY_LEN >> 10,
            serve::WRITE_STALL.as_secs(),
        ),
    ] {
        assert!(guide.contains(&row), "the guide lacks: {row}");
    }
}
