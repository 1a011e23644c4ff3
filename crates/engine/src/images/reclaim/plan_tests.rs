//! What a plan never does, and what it does in cases that were worked out by hand.

use super::*;
use proptest::prelude::*;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-01-31 12:00 UTC);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// Layers as `name:size`.
fn image(name: &str, layers: &[(&str, u64)], days: u32) -> Candidate {
    Candidate {
        id: digest(name),
        layers: layers.iter().map(|(name, size)| Part { digest: digest(name), size: *size }).collect(),
        documents: vec![Part { digest: digest(name), size: 1 }],
        needs: Vec::new(),
        last_used: Some(NOW - DAY * days),
        kept: None,
    }
}

fn container() -> Keep {
    Keep::Container(ContainerUse { container: "abc".to_owned(), running: false })
}

/// What goes, in order, with what it frees.
fn going(images: &[Candidate], budget: u64) -> Vec<(String, u64)> {
    let plan = plan(images, &HashSet::new(), Policy { budget, keep_recent: 2 * DAY }, NOW);
    let name =
        |id: &Digest| ["a", "b", "c", "d"].into_iter().find(|name| digest(name) == *id).unwrap().to_owned();
    plan.decisions
        .iter()
        .filter(|decision| decision.keep.is_none())
        .map(|decision| (name(&decision.id), decision.freed))
        .collect()
}

fn keep_of(plan: &Plan, name: &str) -> Option<Keep> {
    plan.decisions.iter().find(|decision| decision.id == digest(name)).unwrap().keep.clone()
}

#[test]
fn the_longest_unused_go_first_until_the_rest_fits() {
    let three = [image("a", &[("1", 10)], 5), image("b", &[("2", 20)], 9), image("c", &[("3", 30)], 7)];
    let all = 10 + 20 + 30 + 3;
    for (budget, expected) in [
        (all, vec![]),
        (all - 1, vec![("b", 21)]),
        (all - 21, vec![("b", 21)]),
        (all - 22, vec![("b", 21), ("c", 31)]),
        (0, vec![("b", 21), ("c", 31), ("a", 11)]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|(name, freed)| (name.to_owned(), freed)).collect();
        assert_eq!(going(&three, budget), expected, "{budget}");
    }
    let never = Candidate { last_used: None, ..image("d", &[("4", 1)], 0) };
    assert_eq!(
        going(&[three[1].clone(), never], 22),
        [("d".to_owned(), 2)],
        "one of which no use is known is the oldest"
    );
}

#[test]
fn a_shared_layer_is_freed_with_the_last_image_that_has_it() {
    let pair = [image("a", &[("base", 100), ("1", 1)], 9), image("b", &[("base", 100), ("2", 2)], 8)];
    assert_eq!(going(&pair, 103), [("a".to_owned(), 2)]);
    assert_eq!(going(&pair, 102), [("a".to_owned(), 2), ("b".to_owned(), 103)]);
}

#[test]
fn what_is_kept_is_kept_for_a_reason() {
    let images = [
        Candidate { kept: Some(container()), ..image("a", &[("1", 10)], 90) },
        Candidate { kept: Some(Keep::Pinned(Pin::Label)), ..image("b", &[("2", 10)], 90) },
        image("c", &[("3", 10)], 1),
        image("d", &[("1", 10), ("2", 10)], 90),
    ];
    let plan = plan(&images, &HashSet::new(), Policy { budget: 0, keep_recent: 2 * DAY }, NOW);
    let expected = [container(), Keep::Pinned(Pin::Label), Keep::Recent, Keep::Shared];
    for (name, expected) in ["a", "b", "c", "d"].into_iter().zip(expected) {
        assert_eq!(keep_of(&plan, name), Some(expected), "{name}");
    }
    assert_eq!(plan.again, Some(NOW + DAY), "then the recent one may go");
}

#[test]
fn a_layer_that_a_container_keeps_is_not_counted_as_freed() {
    let images = [image("a", &[("1", 10), ("2", 20)], 9)];
    let kept = HashSet::from([digest("2")]);
    let plan = plan(&images, &kept, Policy { budget: 0, keep_recent: DAY }, NOW);
    assert_eq!((plan.used, plan.decisions[0].freed, plan.again), (31, 11, None));
}

#[test]
fn an_image_goes_after_those_that_were_made_of_it() {
    let parent = image("a", &[("1", 10)], 90);
    let child = Candidate { needs: vec![parent.id], ..image("b", &[("1", 10), ("2", 5)], 9) };
    let pair = [parent, child];
    assert_eq!(going(&pair, 0), [("b".to_owned(), 6), ("a".to_owned(), 11)]);
    assert_eq!(going(&pair, 12), [("b".to_owned(), 6)]);
    let held =
        [pair[0].clone(), Candidate { kept: Some(container()), layers: Vec::new(), ..pair[1].clone() }];
    let plan = plan(&held, &HashSet::new(), Policy { budget: 0, keep_recent: DAY }, NOW);
    assert_eq!(keep_of(&plan, "a"), Some(Keep::Needed(digest("b"))));
}

#[test]
fn a_circle_of_parents_ends() {
    let one = Candidate { needs: vec![digest("b")], ..image("a", &[("1", 10)], 9) };
    let other = Candidate { needs: vec![digest("a")], ..image("b", &[("2", 10)], 9) };
    assert_eq!(going(&[one, other], 0), []);
}

/// Layers, days since the last use, why it is kept, and which images it needs.
type Drawn = (Vec<usize>, Option<u32>, Option<Keep>, Vec<usize>);

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let kept = prop_oneof![Just(container()), Just(Keep::Pinned(Pin::Id)), Just(Keep::Held)];
    let one = (
        prop::collection::vec(0_usize..12, 0..5),
        prop::option::of(0_u32..10),
        prop::option::weighted(0.2, kept),
        prop::collection::vec(0_usize..20, 0..3),
    );
    prop::collection::vec(one, 0..20).prop_map(|all| all.into_iter().enumerate().map(built).collect())
}

fn built((number, (layers, days, kept, needs)): (usize, Drawn)) -> Candidate {
    let named = |number: usize| digest(&format!("image {number}"));
    let layer = |layer: usize| Part { digest: digest(&layer.to_string()), size: 1 << layer };
    Candidate {
        id: named(number),
        layers: layers.into_iter().map(layer).collect(),
        documents: vec![Part { digest: named(number), size: 3 }],
        // Only those that were there before.
        needs: needs.into_iter().filter(|needed| *needed < number).map(named).collect(),
        last_used: days.map(|days| NOW - DAY * days),
        kept,
    }
}

/// Bytes of the images that `stays` chooses, each piece once.
fn room(images: &[Candidate], stays: impl Fn(&Candidate) -> bool) -> u64 {
    let parts: BTreeMap<Digest, u64> = images
        .iter()
        .filter(|image| stays(image))
        .flat_map(|image| image.parts().map(|part| (part.digest, part.size)))
        .collect();
    parts.values().sum()
}

proptest! {
    #[test]
    fn a_plan_keeps_its_promises(images in candidates(), budget in 0_u64..9000, days in 0_u32..10) {
        let policy = Policy { budget, keep_recent: DAY * days };
        let plan = plan(&images, &HashSet::new(), policy, NOW);
        let all = room(&images, |_| true);
        prop_assert_eq!(plan.used, all);
        prop_assert_eq!(plan.decisions.len(), images.len());
        let of = |id: &Digest| images.iter().find(|image| image.id == *id).unwrap();
        let mut gone: HashSet<Digest> = HashSet::new();
        for decision in &plan.decisions {
            let image = of(&decision.id);
            if let Some(keep) = &decision.keep {
                prop_assert_eq!(decision.freed, 0);
                if *keep == Keep::Fits {
                    prop_assert!(room(&images, |image| !gone.contains(&image.id)) <= budget);
                }
                continue;
            }
            // Nothing goes that is used, pinned, on its way or recent, that others were made of, or without need.
            prop_assert!(image.kept.is_none());
            prop_assert!(days == 0 || image.last_used.is_none_or(|used| NOW - used >= DAY * days));
            prop_assert!(images.iter().all(|child| !child.needs.contains(&image.id) || gone.contains(&child.id)));
            let before = room(&images, |image| !gone.contains(&image.id));
            prop_assert!(before > budget);
            // What is counted as freed is what nobody has any more.
            gone.insert(image.id);
            prop_assert_eq!(decision.freed, before - room(&images, |image| !gone.contains(&image.id)));
        }
        // Where it does not fit in the end, whatever stays has a reason of its own.
        if room(&images, |image| !gone.contains(&image.id)) > budget {
            prop_assert!(plan.decisions.iter().all(|decision| decision.keep != Some(Keep::Fits)));
        }
    }
}
