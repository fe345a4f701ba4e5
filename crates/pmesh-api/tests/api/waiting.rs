//! An action is an operation of the node, not of the request.

use http::Method;
use serde_json::json;

use crate::{node, serving_manifest, test_api};

#[tokio::test(start_paused = true)]
async fn an_action_that_is_not_waited_for_is_accepted() {
    let node = node().await;
    let api = test_api(&node);
    let by_parameter = api.post("/service/restart/web?wait=false").await;
    let by_body = api.send(Method::POST, "/service/restart/web", &[], r#"{"wait": false}"#).await;
    let preference = [("prefer", "handling=lenient, respond-async; wait=10")];
    let by_preference = api.send(Method::POST, "/service/restart/web", &preference, "").await;
    for answer in [by_parameter, by_body, by_preference] {
        assert_eq!(answer.status, 202);
        let id = answer.headers["operation-id"].to_str().unwrap();
        assert_eq!(answer.json, json!({"operation": id}));
        assert_eq!(answer.headers["location"], format!("/operation/{id}"));
        let ended = api.get(&format!("/operation/{id}?wait=30s")).await;
        assert_eq!((&ended.json["state"], &ended.json["result"]), (&json!("done"), &json!({"count": 1})));
    }
    let waited = api.send(Method::POST, "/service/restart/web?wait=true", &preference, "").await;
    assert_eq!(waited.status, 200, "the parameter says more than the preference");
}

#[tokio::test(start_paused = true)]
async fn an_action_that_takes_longer_than_the_wait_is_accepted_and_goes_on() {
    let node = node().await;
    let api = test_api(&node);
    node.prober.hold(true);
    let accepted = api.post("/service/restart/web?wait=20ms").await;
    assert_eq!(accepted.status, 202);
    let id = accepted.json["operation"].as_str().unwrap();
    let running = api.get(&format!("/operation/{id}?wait=20ms")).await;
    assert_eq!((running.status.as_u16(), &running.json["state"]), (200, &json!("running")));
    assert_eq!(running.json["ended"], "0001-01-01T00:00:00Z");
    assert!(running.json.get("result").is_none() && running.json.get("error").is_none());
    let queued = api.post("/reload?wait=false").await.json;
    let queued = queued["operation"].as_str().unwrap();
    let waiting = api.get(&format!("/operation/{queued}")).await.json;
    assert_eq!((&waiting["state"], &waiting["started"]), (&json!("queued"), &json!("0001-01-01T00:00:00Z")));
    let list = api.get("/operation?wait=20ms").await;
    assert_eq!(list.json[0]["state"], "queued");

    node.prober.hold(false);
    let all = api.get("/operation?wait").await.json;
    assert!(all.as_array().unwrap().iter().all(|operation| operation["state"] == "done"), "{all}");
    assert_eq!(api.get(&format!("/operation/{id}?wait=true")).await.json["result"], json!({"count": 1}));
}

#[tokio::test(start_paused = true)]
async fn every_action_waits_as_long_as_it_is_told() {
    let node = node().await;
    let api = test_api(&node);
    node.vcs.push("b2");
    node.prober.hold(true);
    let update = api.post("/repo/update?wait=20ms").await;
    assert_eq!(update.status, 202, "{}", update.text);
    let stop = api.post("/service/stop/files?wait=false").await;
    assert_eq!(stop.status, 202, "{}", stop.text);
    // The time is up, and what is there is the answer.
    let list = api.get("/operation?wait=20ms").await;
    let running = list.json.as_array().unwrap().iter().find(|operation| operation["kind"] == "update");
    assert_eq!((list.status.as_u16(), &running.unwrap()["state"]), (200, &json!("running")));
    node.prober.hold(false);
    let id = update.json["operation"].as_str().unwrap();
    assert_eq!(api.get(&format!("/operation/{id}?wait=30s")).await.json["state"], "done");
    for (path, count) in [("/service/stop/web?wait=30s", 1), ("/service/stop?wait=true", 1)] {
        let stopped = api.post(path).await;
        assert_eq!((stopped.status.as_u16(), &stopped.json), (200, &json!({"count": count})), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_hangs_up_stops_nothing() {
    let node = node().await;
    let api = test_api(&node);
    let before = api.get("/service").await.json;
    node.prober.hold(true);
    {
        let call = api.post("/service/restart/web");
        let hung_up = tokio::time::timeout(std::time::Duration::from_millis(20), call).await;
        assert!(hung_up.is_err());
    }
    node.prober.hold(false);
    let all = api.get("/operation?wait").await.json;
    assert_eq!((&all[0]["kind"], &all[0]["state"]), (&json!("restart"), &json!("done")));
    assert_ne!(api.get("/service").await.json["web"], before["web"]);
}

#[tokio::test(start_paused = true)]
async fn equal_calls_that_wait_for_their_turn_share_one_run() {
    let node = node().await;
    let api = test_api(&node);
    node.prober.hold(true);
    assert_eq!(api.post("/service/restart/web?wait=20ms").await.status, 202);
    let first = api.post("/reload?wait=false").await.json;
    let second = api.get("/reload?wait=0").await.json;
    let different = api.post("/reload?wait=false&invalidate").await.json;
    assert_eq!(first, second);
    assert_ne!(first, different);
}

#[tokio::test(start_paused = true)]
async fn when_too_many_operations_wait_the_answer_is_busy() {
    let names: Vec<String> = (0..33).map(|number| format!("files{number}")).collect();
    let files: Vec<String> = names.iter().map(|name| format!("  {name}: !FS .\n")).collect();
    let node = serving_manifest(&format!("services:\n  web: !App\n    run: web\n{}", files.concat())).await;
    let api = test_api(&node);
    node.prober.hold(true);
    assert_eq!(api.post("/service/restart/web?wait=20ms").await.status, 202);
    let paths = names
        .iter()
        .flat_map(|name| ["", "&invalidate"].map(|more| format!("/service/restart/{name}?wait=false{more}")));
    let paths: Vec<String> = paths.collect();
    for path in &paths[..64] {
        assert_eq!(api.post(path).await.status, 202, "{path}");
    }
    let busy = api.post(&paths[64]).await;
    assert_eq!((busy.status.as_u16(), busy.code()), (503, "busy"));
    assert!(busy.headers["retry-after"].to_str().unwrap().parse::<u32>().is_ok());
    assert!(!busy.headers.contains_key("operation-id") && busy.json.get("operation").is_none());
    assert_eq!(api.post(&paths[0]).await.status, 202, "an equal call needs no place");
}
