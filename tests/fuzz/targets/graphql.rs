//! GraphQL documents: what is allowed, another parser of GraphQL finds to be so.
#![no_main]

use std::sync::{Arc, LazyLock};

use enforcer_fuzz::{policy, request, told};
use enforcer_policy::AgentPolicy;
use graphql_parser::query::{
    Definition, Document, OperationDefinition, Selection, SelectionSet, parse_query,
};
use libfuzzer_sys::fuzz_target;

static POLICY: LazyLock<Arc<AgentPolicy>> = LazyLock::new(|| {
    policy(
        "deny:\n  - { name: no-evil, graphql: { fields: [evil] } }\n\
         allow:\n  - { name: r, host: a.test, graphql: { operations: [query], fields: [viewer, a.b], max_depth: 6 } }\n",
    )
});

fuzz_target!(|text: &str| {
    let body = serde_json::json!({ "query": text }).to_string();
    let Some(request) =
        request(&POLICY, "POST", "https://a.test/graphql", "application/json", body.as_bytes())
    else {
        return;
    };
    if told(&POLICY, &request) != "allow r" {
        return;
    }
    // Newer syntax than this parser knows is none of its business.
    let Ok(document) = parse_query::<&str>(text) else { return };
    for definition in &document.definitions {
        let set = match definition {
            Definition::Operation(OperationDefinition::SelectionSet(set)) => set,
            Definition::Operation(OperationDefinition::Query(query)) => &query.selection_set,
            Definition::Operation(_) => panic!("no query: {text}"),
            Definition::Fragment(_) => continue,
        };
        let mut roots = Vec::new();
        fields(&document, set, 0, &mut roots);
        for (name, set) in roots {
            let below = || {
                let mut below = Vec::new();
                fields(&document, set, 0, &mut below);
                below
            };
            let fine = match name {
                "viewer" | "__typename" => true,
                "a" => below().iter().all(|(name, _)| matches!(*name, "b" | "__typename")),
                _ => false,
            };
            assert!(fine, "{name} in {text}");
        }
    }
});

/// The fields of a selection, fragments unfolded.
fn fields<'d, 'a>(
    document: &'d Document<'a, &'a str>,
    set: &'d SelectionSet<'a, &'a str>,
    depth: usize,
    found: &mut Vec<(&'a str, &'d SelectionSet<'a, &'a str>)>,
) {
    // A fragment that spreads itself is refused, so it never comes here.
    assert!(depth < 100);
    for selection in &set.items {
        match selection {
            Selection::Field(field) => found.push((field.name, &field.selection_set)),
            Selection::InlineFragment(inner) => fields(document, &inner.selection_set, depth + 1, found),
            Selection::FragmentSpread(spread) => {
                for definition in &document.definitions {
                    if let Definition::Fragment(fragment) = definition
                        && fragment.name == spread.fragment_name
                    {
                        fields(document, &fragment.selection_set, depth + 1, found);
                    }
                }
            }
        }
    }
}
