//! Each flow of architecture §8, with a crash at each of its points: before and after every batch,
//! every request and every piece of slow work of one device.
//!
//! A flow is run once to count the points, then once for each of them: the device dies there, stays
//! dead for a while, starts again over what its store holds, and does the step again if the step
//! was not answered.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use corncrake::{ConversationId, Error, Standing};

use crate::{check::Mood, device::Device, devices::id, world::World};

/// What a flow works on, made before the counting begins.
struct Scene {
    world: World,
    /// Who dies.
    mortal: Device,
    others: Vec<Device>,
    chat: Option<ConversationId>,
}

type Step = fn(&Scene) -> Result<(), Error>;

/// Who dies at a point.
#[derive(Clone, Copy, Debug)]
enum Dies {
    /// The device whose point it is.
    One,
    /// That device and another one.
    Two,
    /// The server.
    Server,
}

/// Runs `step` with a crash at each of its points, and checks what is left each time.
fn crash_everywhere(set: fn(u64) -> Scene, step: Step, check: fn(&Scene)) {
    let scene = set(0);
    scene.mortal.crasher().count(None);
    step(&scene).unwrap();
    scene.world.settle();
    let points = scene.mortal.crasher().passed();
    check(&scene);
    drop(scene);
    assert!(points > 2, "a flow has more points than {points}");
    let next = AtomicU64::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(1, Ordering::Relaxed);
                    if point >= points {
                        return;
                    }
                    for dies in [Dies::One, Dies::Two, Dies::Server] {
                        let run = || crash_at(point, dies, set, step, check);
                        if std::panic::catch_unwind(run).is_err() {
                            *failed.lock().unwrap() = Some((point, dies));
                        }
                    }
                }
            });
        }
    });
    let failed = *failed.lock().unwrap();
    assert!(failed.is_none(), "of {points} points, a crash does harm at {failed:?}");
}

fn crash_at(point: u64, dies: Dies, set: fn(u64) -> Scene, step: Step, check: fn(&Scene)) {
    let scene = set(0);
    scene.world.note(format!("— {} will die at point {point} —", scene.mortal.label()));
    let (mortal, other) = (scene.mortal.clone(), scene.others[0].clone());
    let network = scene.world.network().clone();
    match dies {
        Dies::One => {}
        Dies::Two => scene.mortal.crasher().do_instead(move || {
            other.crash();
            mortal.crash();
        }),
        Dies::Server => scene.mortal.crasher().do_instead(move || network.crash_server()),
    }
    scene.mortal.crasher().count(Some(point));
    let answered = step(&scene);
    if answered.is_ok() {
        // The rest of the flow goes on without a call; die there.
        let limit = scene.world.executor().now() + 600_000;
        scene.world.executor().run_until(limit, || !scene.mortal.runs());
    }
    scene.mortal.crasher().count(None);
    scene.world.pass(point * 977 % 20_000);
    let dead = scene.others.iter().chain([&scene.mortal]).filter(|device| !device.runs());
    dead.for_each(Device::start);
    if answered.is_err() {
        let again = step(&scene).map_err(|error| error.code());
        assert!(
            matches!(again, Ok(()) | Err("already_so" | "already_has_account" | "unknown_member")),
            "{again:?}"
        );
    }
    scene.world.settle();
    check(&scene);
}

fn alone(seed: u64) -> Scene {
    let world = World::new(seed);
    let mortal = world.device("ann");
    let others = vec![world.sign_up("bob")];
    Scene { world, mortal, others, chat: None }
}

fn pair(seed: u64) -> Scene {
    let world = World::new(seed);
    let (mortal, others) = (world.sign_up("ann"), vec![world.sign_up("bob")]);
    world.settle();
    Scene { world, mortal, others, chat: None }
}

fn chatting(seed: u64) -> Scene {
    let mut scene = pair(seed);
    let chat = scene.mortal.start_chat(&["bob"]);
    scene.world.settle();
    scene.chat = Some(chat);
    scene
}

fn group(seed: u64) -> Scene {
    let mut scene = pair(seed);
    scene.others.push(scene.world.sign_up("cem"));
    scene.others.push(scene.world.sign_up("dee"));
    let chat = scene.mortal.create_group("meadow", &["bob", "cem"]);
    scene.world.settle();
    scene.chat = Some(chat);
    scene
}

fn agrees(scene: &Scene) {
    scene.world.agree(scene.chat.unwrap(), Mood::Honest);
}

#[test]
fn sign_up() {
    crash_everywhere(
        alone,
        |scene| scene.world.try_sign_up(&scene.mortal),
        |scene| {
            let chat = scene.mortal.start_chat(&["bob"]);
            scene.world.settle();
            scene.world.agree(chat, Mood::Honest);
            assert_eq!(scene.others[0].chats().len(), 1);
        },
    );
}

#[test]
fn log_in_on_an_empty_store() {
    crash_everywhere(
        |seed| {
            let mut scene = chatting(seed);
            scene.others.push(scene.mortal.clone());
            scene.mortal = scene.world.device("ann");
            scene
        },
        |scene| scene.world.try_log_in(&scene.mortal),
        agrees,
    );
}

#[test]
fn start_a_chat() {
    crash_everywhere(
        pair,
        |scene| scene.mortal.try_start_chat(&["bob"]).map(|_| ()),
        |scene| {
            assert_eq!(scene.mortal.chats().len(), 1);
            let chat = scene.mortal.start_chat(&["bob"]);
            scene.world.settle();
            scene.world.agree(chat, Mood::Honest);
        },
    );
}

#[test]
fn be_invited_to_a_chat() {
    crash_everywhere(
        |seed| {
            let mut scene = pair(seed);
            std::mem::swap(&mut scene.mortal, &mut scene.others[0]);
            scene
        },
        |scene| {
            let chat = scene.others[0].try_start_chat(&["bob"])?;
            scene.others[0].try_say(chat, "hello").map(|_| ())
        },
        |scene| {
            let chat = scene.others[0].start_chat(&["bob"]);
            scene.world.settle();
            scene.world.agree(chat, Mood::Honest);
        },
    );
}

#[test]
fn send() {
    crash_everywhere(
        chatting,
        |scene| scene.mortal.try_say(scene.chat.unwrap(), "a word").map(|_| ()),
        agrees,
    );
}

#[test]
fn receive() {
    crash_everywhere(
        |seed| {
            let mut scene = chatting(seed);
            std::mem::swap(&mut scene.mortal, &mut scene.others[0]);
            scene
        },
        |scene| scene.others[0].try_say(scene.chat.unwrap(), "a word").map(|_| ()),
        agrees,
    );
}

#[test]
fn add_somebody() {
    crash_everywhere(group, |scene| scene.mortal.add(scene.chat.unwrap(), "dee"), agrees);
}

#[test]
fn be_added() {
    crash_everywhere(
        |seed| {
            let mut scene = group(seed);
            std::mem::swap(&mut scene.mortal, &mut scene.others[2]);
            scene
        },
        |scene| scene.others[2].add(scene.chat.unwrap(), "dee"),
        agrees,
    );
}

#[test]
fn remove_somebody() {
    crash_everywhere(group, |scene| scene.mortal.remove(scene.chat.unwrap(), "cem"), agrees);
}

#[test]
fn remove_a_device() {
    crash_everywhere(
        |seed| {
            let mut scene = group(seed);
            scene.others.push(scene.world.log_in("ann"));
            scene.world.settle();
            scene
        },
        |scene| match scene.mortal.remove_device(id(scene.others.last().unwrap())) {
            // The first time it was done, and nobody heard of it.
            Err(error) if error.code() == "unknown_device" => Ok(()),
            other => other,
        },
        |scene| {
            agrees(scene);
            let gone = scene.others.last().unwrap();
            assert_eq!(gone.info(scene.chat.unwrap()).unwrap().standing, Standing::Removed);
        },
    );
}

#[test]
fn confirm_a_removal() {
    crash_everywhere(
        |seed| {
            let mut scene = group(seed);
            std::mem::swap(&mut scene.mortal, &mut scene.others[0]);
            scene
        },
        |scene| scene.others[0].remove(scene.chat.unwrap(), "cem"),
        agrees,
    );
}

#[test]
fn leave() {
    crash_everywhere(
        |seed| {
            let mut scene = group(seed);
            std::mem::swap(&mut scene.mortal, &mut scene.others[0]);
            scene
        },
        |scene| match scene.mortal.leave(scene.chat.unwrap()) {
            Err(error) if error.code() == "unknown_chat" || error.code() == "not_a_member" => {
                Ok(())
            }
            other => other,
        },
        agrees,
    );
}

#[test]
fn come_back_after_a_removal() {
    crash_everywhere(
        |seed| {
            let mut scene = group(seed);
            scene.mortal.remove(scene.chat.unwrap(), "cem").unwrap();
            scene.world.settle();
            std::mem::swap(&mut scene.mortal, &mut scene.others[1]);
            scene
        },
        |scene| scene.others[1].add(scene.chat.unwrap(), "cem"),
        agrees,
    );
}
