use super::{Carriage, Checks, Conditions, HostPattern, Index, Template};
use crate::canon::{Host, Request, Target};
use crate::window::Moment;

fn takes(template: &str, path: &str) -> bool {
    Template::parse(template).unwrap().matches(Target::parse(path).unwrap().path())
}

#[test]
fn templates_match_whole_segments() {
    for (template, path, expected) in [
        ("/", "/", true),
        ("/", "/a", false),
        ("/a", "/a", true),
        ("/a", "/a/", false),
        ("/a/", "/a/", true),
        ("/a", "/A", false),
        ("/a", "/ab", false),
        ("/repos/o", "/repos/other", false),
        ("/repos/o/**", "/repos/other", false),
        ("/repos/o/**", "/repos/o", true),
        ("/repos/o/**", "/repos/o/", true),
        ("/repos/o/**", "/repos/o/a/b", true),
        ("/repos/*/x", "/repos/a/x", true),
        ("/repos/{owner}/x", "/repos/a/x", true),
        ("/repos/{owner}/x", "/repos/a/b/x", false),
        ("/v1/*", "/v1/a", true),
        ("/v1/*", "/v1/", false),
        ("/v1/*", "/v1", false),
        ("/v1/*", "/v1/a/b", false),
        ("/**", "/", true),
        ("/**", "/a/b", true),
        ("/**/x", "/x", true),
        ("/**/x", "/a/b/x", true),
        ("/**/x", "/a/x/b", false),
        ("/a/**/b/*/c", "/a/b/b/1/c", true),
        ("/a/**/b/*/c", "/a/1/b/2/b/3/c", true),
        ("/a/**/b/*/c", "/a/b/c", false),
        ("/a/**/**/b", "/a/b", true),
        ("/@scope/x", "/%40scope/x", true),
        ("/%40scope/x", "/@scope/x", true),
        ("/a%20b", "/a%20b", true),
        ("/a%20b", "/a+b", false),
        ("/%2A", "/*", true),
        ("/%2A", "/x", false),
        ("/caf%C3%A9", "/caf%c3%a9", true),
    ] {
        assert_eq!(takes(template, path), expected, "{template} on {path}");
    }
}

#[test]
fn what_stands_for_a_name_is_told_decoded() {
    for (template, path, name, expected) in [
        ("/repos/{owner}/{repo}/**", "/repos/o/r/pulls", "owner", Some("o")),
        ("/repos/{owner}/{repo}/**", "/repos/o/r/pulls", "repo", Some("r")),
        ("/repos/{owner}/{repo}/**", "/repos/o", "owner", None),
        ("/repos/{owner}/**", "/repos/o/r", "repo", None),
        // One value however it is spelt.
        ("/{scope}/x", "/%40scope/x", "scope", Some("@scope")),
        ("/{scope}/x", "/@scope/x", "scope", Some("@scope")),
        // Behind a `**` it is the segment that makes the whole path match.
        ("/**/b/{n}/c", "/b/1/b/2/c", "n", Some("2")),
        ("/a/**/{last}", "/a/b/c", "last", Some("c")),
    ] {
        let template = Template::parse(template).unwrap();
        let path = Target::parse(path).unwrap();
        assert_eq!(template.captured(path.path(), name).as_deref(), expected, "{template} {name}");
    }
}

#[test]
fn templates_that_could_surprise_are_refused() {
    for (template, words) in [
        ("", "does not start with"),
        ("a", "does not start with"),
        ("*", "does not start with"),
        ("/a*", "mixes `*`"),
        ("/a/**b", "mixes `*`"),
        ("/***", "mixes `*`"),
        ("/{a}b", "not a placeholder"),
        ("/{a}/{a}", "twice"),
        ("/{}", "not a placeholder"),
        ("/{a", "not a placeholder"),
        ("/{a}{b}", "not a placeholder"),
        ("/a//b", "two slashes"),
        ("/a/../b", "would ever match"),
        ("/a%2fb", "would ever match"),
        ("/%61", "must be written `a`"),
        ("/%c3%a9", "must be written `%C3%A9`"),
        ("/é", "would ever match"),
        ("/a;b", "would ever match"),
        ("/a b", "would ever match"),
        ("/a?b", "query"),
        ("/a#b", "fragment"),
    ] {
        let error = Template::parse(template).unwrap_err();
        assert!(error.contains(words), "{template}: {error}");
    }
    assert!(Template::parse(&"/a".repeat(65)).is_err());
}

#[test]
fn a_template_covers_another_only_when_it_takes_all_its_paths() {
    for (outer, inner, expected) in [
        ("/**", "/a/*/**", true),
        ("/a/**", "/a", true),
        ("/a/**", "/a/b/{x}", true),
        ("/a/*", "/a/b", true),
        ("/a/*", "/a/", false),
        ("/a/*", "/a/**", false),
        ("/a/b", "/a/*", false),
        ("/*/b", "/a/*", false),
        ("/**/b", "/a/**/b", true),
        ("/**/b", "/a/**", false),
    ] {
        let (outer_template, inner_template) =
            (Template::parse(outer).unwrap(), Template::parse(inner).unwrap());
        assert_eq!(outer_template.covers(&inner_template), expected, "{outer} over {inner}");
    }
}

#[test]
fn templates_overlap_where_one_path_matches_both() {
    for (one, other, expected) in [
        ("/a", "/a", true),
        ("/a", "/b", false),
        ("/a/*", "/*/b", true),
        ("/a/*", "/a", false),
        ("/a/**", "/a", true),
        ("/a/**", "/**/z", true),
        ("/a/**", "/b/**", false),
        ("/**/b", "/**/c", false),
        ("/**/b/**", "/**/c/**", true),
        ("/a/{x}/c", "/a/**/d", false),
        ("/a/*", "/a/", false),
        ("/a/**", "/a/", true),
        ("/**", "/", true),
        ("/a/**/b", "/a/b", true),
        ("/a/**/b/*", "/*/*/*", true),
        ("/a/**/b/*", "/*/*", false),
    ] {
        let (a, b) = (Template::parse(one).unwrap(), Template::parse(other).unwrap());
        assert_eq!(a.overlaps(&b), expected, "{one} and {other}");
        assert_eq!(b.overlaps(&a), expected, "{other} and {one}");
    }
}

#[test]
fn wildcards_compare_labels() {
    let pattern = HostPattern::parse("*.github.com").unwrap();
    for (host, expected) in [
        ("api.github.com", true),
        ("a.b.github.com", true),
        ("API.GITHUB.COM", true),
        ("github.com", false),
        ("evilgithub.com", false),
        ("github.com.evil.com", false),
        ("127.0.0.1", false),
        ("::1", false),
    ] {
        assert_eq!(pattern.matches(&Host::parse(host).unwrap()), expected, "{host}");
    }
    for bad in ["*", "*.", "**.a.com", "a.*.com", "*a.com", "*.127.0.0.1", "*.*.com", "*.a.com."] {
        assert!(HostPattern::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn long_paths_against_many_double_stars_stay_quick() {
    let template = format!("{}/z", "/**/a".repeat(31));
    let path = "/a".repeat(4000);
    assert!(!takes(&template, &path));
}

fn conditions(host: &str, path: &str, wide: bool) -> Conditions {
    let host = if host == "*" { HostPattern::Any } else { HostPattern::parse(host).unwrap() };
    let template = Template::parse(path).unwrap();
    Conditions {
        carriage: Carriage::Requests,
        hosts: vec![host],
        scheme: None,
        port: None,
        methods: None,
        templates: vec![if wide { template.without_final_slash() } else { template }],
        raw_path: true,
        when: None,
        checks: Checks::default(),
        wide,
    }
}

/// Whoever asks the index sees every rule that a look at all of them would find.
#[test]
fn the_index_leaves_no_rule_out() {
    let hosts = ["*", "*.x.test", "*.a.x.test", "a.x.test", "b.a.x.test", "10.0.0.1"];
    let paths = [
        "/", "/**", "/*", "/a", "/a/", "/{n}/", "/a/b", "/*/b", "/a/*", "/a/**", "/**/b", "/a/**/b",
        "/a/*/b", "/%40", "/@/*", "/a%2Fb", "/a%2Fb/*",
    ];
    for wide in [false, true] {
        let all: Vec<Conditions> =
            hosts.iter().flat_map(|host| paths.iter().map(|path| conditions(host, path, wide))).collect();
        let index = Index::new(0, wide, &all);
        for one in &all {
            let mut covering = 0;
            for (number, other) in all.iter().enumerate().filter(|(_, other)| other.covers(one)) {
                covering += 1;
                let found = index.first_above(one, |asked| asked == number);
                assert_eq!(found, Some(number), "{other:?} covers {one:?}");
            }
            // Itself, at least, and another one where there is a wider one.
            assert!(covering > 0);
            let first = all.iter().position(|other| other.covers(one));
            assert_eq!(index.first_above(one, |number| all[number].covers(one)), first);
        }
        for host in ["a.x.test", "b.a.x.test", "x.test", "10.0.0.1"] {
            for path in [
                "/", "/a", "/a/", "/c/", "/a/b", "/c/b", "/a/c/b", "/@", "/%40/x", "/a/b/c/b", "/z",
                "/a%2Fb", "/c/a%2fb", "/a%2Fb/c",
            ] {
                let request = Request::parse("GET", &format!("https://{host}{path}")).unwrap();
                for (number, one) in
                    all.iter().enumerate().filter(|(_, one)| one.takes_head(&request, Moment::ANY))
                {
                    let found = index.first_for(&request, |asked| (asked == number).then_some(()));
                    assert_eq!(found, Some((number, ())), "{one:?} takes {host}{path}");
                }
            }
        }
    }
}
