//! Virtual hosts and routes, as requests look them up.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use http::StatusCode;

use crate::{
    host,
    path::Path,
    spec::{DestinationKey, FilesSpec, Handler, NotFound, Pattern, Route, Site, SiteHost},
    upstream_group::UpstreamGroup,
};

/// All sites; swapped whole.
#[derive(Debug, Default)]
pub(crate) struct RoutingTable {
    by_name: HashMap<String, Arc<SiteRoutes>>,
    any: Option<Arc<SiteRoutes>>,
}

#[derive(Debug)]
pub(crate) struct SiteRoutes {
    /// The name that patterns see; `None` where that is the request's own.
    first_name: Option<String>,
    routes: Vec<CompiledRoute>,
}

#[derive(Debug)]
struct CompiledRoute {
    pattern: Pattern,
    handler: CompiledHandler,
}

#[derive(Debug)]
enum CompiledHandler {
    End(RouteEnd),
    Mux(Vec<CompiledRoute>),
}

/// What a route does that is no list of routes.
#[derive(Clone, Debug)]
pub(crate) enum RouteEnd {
    Upstreams(Arc<UpstreamGroup>),
    Files(Arc<FilesSpec>),
    /// A key that leads nowhere.
    Nowhere,
    Return {
        status: StatusCode,
        text: String,
    },
    Status(StatusCode),
    Redirect(String),
}

/// What the keys in routes lead to.
#[derive(Clone, Debug)]
pub(crate) enum LiveDestination {
    Upstreams(Arc<UpstreamGroup>),
    Files(Arc<FilesSpec>),
}

impl RoutingTable {
    pub(crate) fn new(sites: Vec<Site>, destinations: &BTreeMap<DestinationKey, LiveDestination>) -> Self {
        let mut routing = Self::default();
        for site in sites {
            let first_name = match site.hosts.first() {
                Some(SiteHost::Name(name)) => Some(host::site_name(name)),
                Some(SiteHost::Any) | None => None,
            };
            let routes = compiled(site.routes, destinations);
            let now = Arc::new(SiteRoutes { first_name, routes });
            for name in site.hosts {
                match name {
                    SiteHost::Name(name) => drop(routing.by_name.insert(host::site_name(&name), now.clone())),
                    SiteHost::Any => routing.any = Some(now.clone()),
                }
            }
        }
        routing
    }

    /// The site that a host belongs to, and the host as the site's patterns see it.
    pub(crate) fn site<'a>(&'a self, name: &'a str) -> Option<(&'a Arc<SiteRoutes>, Cow<'a, str>)> {
        for parent in host::with_parents(name) {
            if let Some(site) = self.by_name.get(parent) {
                let seen = match site.first_name.as_deref() {
                    Some(first) if first != parent => {
                        let subdomain = &name[..name.len() - parent.len()];
                        Cow::Owned(format!("{subdomain}{first}"))
                    }
                    Some(_) | None => Cow::Borrowed(name),
                };
                return Some((site, seen));
            }
        }
        let any = self.any.as_ref()?;
        Some((any, Cow::Borrowed(any.first_name.as_deref().unwrap_or(name))))
    }
}

fn compiled(
    routes: Vec<Route>,
    destinations: &BTreeMap<DestinationKey, LiveDestination>,
) -> Vec<CompiledRoute> {
    let compiled_handler = |handler| match handler {
        Handler::Destination(key) => CompiledHandler::End(match destinations.get(&key) {
            Some(LiveDestination::Upstreams(upstreams)) => RouteEnd::Upstreams(upstreams.clone()),
            Some(LiveDestination::Files(files)) => RouteEnd::Files(files.clone()),
            None => RouteEnd::Nowhere,
        }),
        Handler::Return { status, text } => CompiledHandler::End(RouteEnd::Return { status, text }),
        Handler::Status(status) => CompiledHandler::End(RouteEnd::Status(status)),
        Handler::Redirect(to) => CompiledHandler::End(RouteEnd::Redirect(to)),
        Handler::Mux(routes) => CompiledHandler::Mux(compiled(routes, destinations)),
    };
    routes
        .into_iter()
        .map(|route| CompiledRoute { pattern: route.pattern, handler: compiled_handler(route.handler) })
        .collect()
}

impl SiteRoutes {
    /// The ends of the routes that match, in order; nested lists are walked into.
    pub(crate) fn ends<'a>(&'a self, host: &'a str, path: &'a str) -> impl Iterator<Item = &'a RouteEnd> {
        self.ends_where(move |pattern| pattern.matches(host, path))
    }

    /// Whether all readings of a path that the routes led to these upstreams lead there. The app gets what the
    /// client wrote: one that leaves dot segments, or takes parameters off, may not be given what the routes
    /// keep from it.
    ///
    /// A pattern with `;` in it is meant for parameters, and sees them in every reading.
    pub(crate) fn leads_there_alone(&self, host: &str, path: &Path<'_>, to: &Arc<UpstreamGroup>) -> bool {
        let goes_on =
            |end: &&RouteEnd| matches!(end, RouteEnd::Files(files) if files.not_found == NotFound::NextRoute);
        path.other_readings().is_ok_and(|others| {
            others.iter().all(|other| {
                let mut ends = self.ends_where(|pattern| {
                    let is_literal = pattern.as_str().contains(';');
                    pattern.matches(host, if is_literal { &path.seen } else { other })
                });
                let first = ends.find(|end| !goes_on(end));
                matches!(first, Some(RouteEnd::Upstreams(first)) if Arc::ptr_eq(first, to))
            })
        })
    }

    fn ends_where(&self, mut matches: impl FnMut(&Pattern) -> bool) -> impl Iterator<Item = &RouteEnd> {
        let mut open = vec![self.routes.iter()];
        std::iter::from_fn(move || {
            while let Some(routes) = open.last_mut() {
                match routes.next() {
                    Some(route) if !matches(&route.pattern) => {}
                    Some(CompiledRoute { handler: CompiledHandler::End(end), .. }) => return Some(end),
                    Some(CompiledRoute { handler: CompiledHandler::Mux(inner), .. }) => {
                        open.push(inner.iter());
                    }
                    None => drop(open.pop()),
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{LoadBalancing, WhenEmpty},
        upstream_group::GroupMembers,
    };

    fn name(text: &str) -> SiteHost {
        SiteHost::Name(text.to_owned())
    }

    fn status(pattern: &str, code: u16) -> Route {
        Route {
            pattern: Pattern::parse(pattern).unwrap(),
            handler: Handler::Status(StatusCode::from_u16(code).unwrap()),
        }
    }

    /// The statuses of the routes that a request would meet.
    fn met(routing: &RoutingTable, host: &str, path: &str) -> Option<Vec<u16>> {
        let (site, seen) = routing.site(host)?;
        let statuses = site.ends(&seen, path).map(|end| match end {
            RouteEnd::Status(status) => status.as_u16(),
            other => panic!("no other route is in this table: {other:?}"),
        });
        Some(statuses.collect())
    }

    fn routing(sites: Vec<Site>) -> RoutingTable {
        RoutingTable::new(sites, &BTreeMap::new())
    }

    #[test]
    fn a_site_answers_to_its_names_and_their_subdomains_and_the_more_specific_name_wins() {
        let routing = routing(vec![
            Site { hosts: vec![name("Site.com"), name("site.local")], routes: vec![status("_", 201)] },
            Site { hosts: vec![name("api.site.com.")], routes: vec![status("_", 202)] },
            Site { hosts: vec![name("::1")], routes: vec![status("_", 203)] },
        ]);
        for (host, expected) in [
            ("site.com", Some(201)),
            ("www.site.com", Some(201)),
            ("a.b.site.local", Some(201)),
            ("api.site.com", Some(202)),
            ("v1.api.site.com", Some(202)),
            ("api.site.local", Some(201)),
            ("[::1]", Some(203)),
            ("com", None),
            ("mysite.com", None),
        ] {
            assert_eq!(met(&routing, host, "/"), expected.map(|code| vec![code]), "{host}");
        }
    }

    #[test]
    fn patterns_see_the_first_name_in_place_of_an_alias() {
        let routes = vec![status("api.site.com/", 201), status("site.com/", 202), status("/x", 203)];
        let routing = routing(vec![Site { hosts: vec![name("site.com"), name("site.local")], routes }]);
        assert_eq!(met(&routing, "site.local", "/"), Some(vec![202]));
        assert_eq!(met(&routing, "api.site.local", "/"), Some(vec![201]));
        assert_eq!(met(&routing, "api.site.com", "/x"), Some(vec![201, 203]));
        assert_eq!(met(&routing, "other.site.com", "/"), Some(vec![]));
        let seen = |host| routing.site(host).unwrap().1;
        assert!(matches!(seen("api.site.com"), Cow::Borrowed(_)), "no copy where nothing is replaced");
        assert_eq!(seen("api.site.local"), "api.site.com");
    }

    #[test]
    fn the_site_of_all_other_hosts_sees_them_as_they_are() {
        let routes = vec![status("other.net/", 201), status("/", 202)];
        let routing = routing(vec![
            Site { hosts: vec![SiteHost::Any], routes },
            Site { hosts: vec![name("site.com")], routes: vec![] },
        ]);
        assert_eq!(met(&routing, "other.net", "/"), Some(vec![201, 202]));
        assert_eq!(met(&routing, "third.net", "/"), Some(vec![202]));
        assert_eq!(met(&routing, "site.com", "/"), Some(vec![]));
    }

    #[test]
    fn what_an_app_may_read_as_a_path_that_is_kept_from_it_does_not_get_there() {
        let web = UpstreamGroup::new(
            GroupMembers { upstreams: Vec::new(), when_empty: WhenEmpty::Wait },
            LoadBalancing::default(),
        );
        let key = DestinationKey::new("web");
        let to_web = |pattern: &str| Route {
            pattern: Pattern::parse(pattern).unwrap(),
            handler: Handler::Destination(key.clone()),
        };
        let routes = vec![
            status("/admin/, /admin", 403),
            status("/m;v=1/", 404),
            to_web("/m;v=2/"),
            status("/m/", 403),
            to_web("/static/"),
            to_web("_"),
        ];
        let sites = vec![Site { hosts: vec![name("site.com")], routes }];
        let destinations = BTreeMap::from([(key.clone(), LiveDestination::Upstreams(web.clone()))]);
        let routing = RoutingTable::new(sites, &destinations);
        let (site, host) = routing.site("site.com").unwrap();
        for (raw, expected) in [
            ("/x", Ok(true)),
            ("/x//y%2fz", Ok(true)),
            ("/x/../static/y", Ok(true)),
            ("/x;v=1/y", Ok(true)),
            ("/admin/../x", Ok(false)),
            ("/%61dmin/%2e%2e/x", Ok(false)),
            ("/admin;v/x", Ok(false)),
            ("/;v/admin", Ok(false)),
            ("/admin%3bv", Ok(false)),
            ("/m;v=2/x", Ok(true)),
            ("/m;v=3/x", Ok(false)),
            ("/admin/x", Err(403)),
            ("//admin/x", Err(403)),
            ("/admin%2fx", Err(403)),
            ("/./admin", Err(403)),
            ("/x/../admin", Err(403)),
            ("/m;v=1/", Err(404)),
        ] {
            let path = Path::read(raw).unwrap();
            let got = match site.ends(&host, &path.seen).next() {
                Some(RouteEnd::Upstreams(upstreams)) => Ok(site.leads_there_alone(&host, &path, upstreams)),
                Some(RouteEnd::Status(status)) => Err(status.as_u16()),
                other => panic!("no other route is in this table: {other:?}"),
            };
            assert_eq!(got, expected, "{raw}");
        }
    }

    #[test]
    fn routes_are_met_in_order_and_a_list_goes_on_behind_itself() {
        let inner = Handler::Mux(vec![status("/a/b", 202), status("/a/", 203)]);
        let routes = vec![
            status("/a/", 201),
            Route { pattern: Pattern::parse("/a/").unwrap(), handler: inner },
            status("_", 204),
        ];
        let routing = routing(vec![Site { hosts: vec![name("site.com")], routes }]);
        assert_eq!(met(&routing, "site.com", "/a/b"), Some(vec![201, 202, 203, 204]));
        assert_eq!(met(&routing, "site.com", "/a/c"), Some(vec![201, 203, 204]));
        assert_eq!(met(&routing, "site.com", "/b"), Some(vec![204]));
    }
}
