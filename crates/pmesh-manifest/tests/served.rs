//! What a good manifest becomes.

use std::path::Path;

use pmesh_manifest::{Manifest, Mistakes, Serves, Source, Unsupported, parse};
use pmesh_proxy::{DestinationKey, Handler, SiteHost};
use pmesh_supervisor::ServiceKind;

fn read(text: &str) -> Result<Manifest, Mistakes> {
    let source = Source { text: text.as_bytes(), file: Path::new("pm3.yml"), folder: Path::new("/srv/shop") };
    parse(&source, Unsupported::Refuse)
}

fn good(text: &str) -> Manifest {
    match read(text) {
        Ok(manifest) => manifest,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

#[test]
fn a_web_app_behind_one_host() {
    let manifest = good(
        "
services:
  web: !App
    root: web
    run: /usr/bin/python3 app.py
    cluster: 2
    stop_timeout: 5s
    ready_timeout: 10s
  cdn: !FS
  other: !Proxy 9000
server:
  site.local:
    router:
      - site.local/: web
",
    );
    assert_eq!(manifest.root, Path::new("/srv/shop"));
    let names: Vec<&str> = manifest.services.iter().map(|service| service.spec.name.as_str()).collect();
    assert_eq!(names, ["web", "cdn", "other"]);
    let ServiceKind::App(web) = &manifest.services[0].spec.kind else { panic!("web is an app") };
    assert_eq!(web.folder, Path::new("/srv/shop/web"));
    assert_eq!(web.instances, 2);
    assert_eq!(web.run.as_ref().map(ToString::to_string).as_deref(), Some("/usr/bin/python3 app.py"));
    let Serves::Files(files) = &manifest.services[1].serves else { panic!("cdn is files") };
    assert_eq!(files.folder, Path::new("/srv/shop/cdn"));
    assert_eq!(manifest.sites[0].hosts, [SiteHost::Name("site.local".to_owned())]);
    assert_eq!(manifest.sites[0].routes[0].handler, Handler::Destination(DestinationKey::new("web")));
}
