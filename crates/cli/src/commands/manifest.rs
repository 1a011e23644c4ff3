//! `manifest …`: lists of manifests, kept here until they are pushed. The engine speaks to registries for it.

use coracle_api::base64;
use coracle_api::image::NewManifest;
use coracle_client::Client;
use coracle_spec::image::{Descriptor, Document};
use coracle_spec::{Platform, Reference, full_text};

use super::{App, Code, done, print_line, registries, say};
use crate::args::manifest::{AnnotateArgs, CreateArgs, InspectArgs, ManifestCommand, PushArgs, RemoveArgs};
use crate::configuration;
use crate::error::{Error, Result};
use crate::manifests::{Lists, ManifestList, Member, shown_in_full};
use crate::resolve::Invalid;

/// What images can run on, by the list that Docker's command holds annotations against.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

pub(super) async fn dispatch(app: &App, command: ManifestCommand) -> Code {
    match command {
        ManifestCommand::Annotate(args) => annotate(args).map(done),
        ManifestCommand::Create(args) => create(app, args).await.map(done),
        ManifestCommand::Inspect(args) => inspect(app, args).await.map(done),
        ManifestCommand::Push(args) => push(app, args).await.map(done),
        ManifestCommand::Rm(args) => remove(&args).map(done),
    }
}

fn lists() -> Lists {
    Lists::below(&configuration::directory())
}

fn reference(name: &str) -> Result<Reference> {
    let parsed: Result<Reference, _> = name.parse();
    let parsed = parsed.map_err(|error| Invalid(format!("{name}: {}", full_text(&error))))?;
    Ok(if parsed.digest().is_some() { parsed } else { parsed.or_latest() })
}

async fn create(app: &App, args: CreateArgs) -> Result<()> {
    let (lists, list) = (lists(), reference(&args.list)?);
    if lists.list(&list)?.is_some() && !args.amend {
        let text = "refusing to amend an existing manifest list with no --amend flag";
        return Err(Error::Manifest(text.to_owned()));
    }
    let registry = Registry { client: app.client().await?, insecure: args.insecure };
    for name in &args.manifests {
        let image = reference(name)?;
        let member = match lists.member(&list, &image)? {
            Some(member) => member,
            None => match registry.get(&image).await? {
                Found::Image(member) => *member,
                Found::List(_) => {
                    return Err(Error::Manifest(format!("{} is a manifest list", image.canonical())));
                }
            },
        };
        lists.save(&list, &image, &member)?;
    }
    print_line(format!("Created manifest list {}", list.canonical()))
}

fn annotate(args: AnnotateArgs) -> Result<()> {
    let (lists, list, image) = (lists(), reference(&args.list)?, reference(&args.manifest)?);
    let mut member = lists.member(&list, &image)?.ok_or_else(|| {
        let (image, list) = (image.canonical(), list.canonical());
        Error::Manifest(format!("manifest for image {image} does not exist in {list}"))
    })?;
    let platform = member.descriptor.platform.get_or_insert_default();
    let replace = |old: &mut String, new: &String| {
        if !new.is_empty() {
            old.clone_from(new);
        }
    };
    replace(&mut platform.os, &args.os);
    replace(&mut platform.architecture, &args.arch);
    replace(&mut platform.variant, &args.variant);
    replace(&mut platform.os_version, &args.os_version);
    for feature in args.os_features {
        if !platform.os_features.contains(&feature) {
            platform.os_features.push(feature);
        }
    }
    if !is_known(platform) {
        return Err(Error::Manifest(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            args.os, args.arch
        )));
    }
    lists.save(&list, &image, &member)
}

fn is_known(platform: &Platform) -> bool {
    let of_os = PLATFORMS.iter().find(|(os, _)| *os == platform.os);
    of_os.is_some_and(|(_, all)| all.contains(&platform.architecture.as_str()))
}

async fn inspect(app: &App, args: InspectArgs) -> Result<()> {
    let lists = lists();
    if let [list, image] = args.names.as_slice() {
        let (list, image) = (reference(list)?, reference(image)?);
        let member = lists.member(&list, &image)?;
        let member = member.ok_or_else(|| no_such_manifest(&image))?;
        return print_line(if args.verbose { member.shown_in_full() } else { member.shown() });
    }
    let name = reference(&args.names[0])?;
    if let Some(members) = lists.list(&name)? {
        return print_line(if args.verbose { shown_in_full(&members) } else { list_of(&members).content });
    }
    let registry = Registry { client: app.client().await?, insecure: args.insecure };
    match registry.get(&name).await? {
        Found::Image(member) if args.verbose => print_line(member.shown_in_full()),
        Found::Image(member) => print_line(member.shown()),
        Found::List(descriptors) if args.verbose => {
            let mut members = Vec::new();
            for descriptor in &descriptors {
                members.push(registry.member_of(&name, descriptor).await?);
            }
            print_line(shown_in_full(&members))
        }
        Found::List(descriptors) => print_line(ManifestList::of(&descriptors).content),
    }
}

fn list_of(members: &[Member]) -> ManifestList {
    ManifestList::of(members.iter().map(|member| &member.descriptor))
}

async fn push(app: &App, args: PushArgs) -> Result<()> {
    let (lists, target) = (lists(), reference(&args.list)?);
    let members = lists.list(&target)?.filter(|members| !members.is_empty());
    let members = members.ok_or_else(|| no_such_manifest(&target))?;
    let sources = members.iter().map(|member| source(member, &target)).collect::<Result<Vec<_>>>()?;
    let registry = Registry { client: app.client().await?, insecure: args.insecure };
    for (member, from) in members.iter().zip(&sources) {
        // What is in the list's own repository is there already.
        let Some(from) = from else { continue };
        let digest = member.descriptor.digest;
        let name = format!("{}@{digest}", target.name());
        let new = NewManifest {
            name: name.clone(),
            insecure: args.insecure,
            media_type: member.descriptor.media_type.clone(),
            content: base64::encode(&member.raw),
            from: from.name(),
        };
        let put = registry.put(&new, &target).await?;
        print_line(format!("Pushed ref {name} with digest: {put}"))?;
    }
    let list = list_of(&members);
    let new = NewManifest {
        name: target.canonical(),
        insecure: args.insecure,
        media_type: list.media_type.to_owned(),
        content: base64::encode(list.content.as_bytes()),
        from: String::new(),
    };
    print_line(registry.put(&new, &target).await?)?;
    if args.purge {
        lists.remove(&target)?;
    }
    Ok(())
}

/// The repository that an image of a list has to be brought from; nothing where it is the list's own.
fn source(member: &Member, target: &Reference) -> Result<Option<Reference>> {
    let from = reference(&member.reference)?;
    let platform = member.descriptor.platform.as_ref();
    if platform.is_none_or(|platform| platform.os.is_empty() || platform.architecture.is_empty()) {
        return Err(Error::Manifest(format!(
            "manifest {} must have an OS and Architecture to be pushed to a registry",
            member.reference
        )));
    }
    if from.domain() != target.domain() {
        return Err(Error::Manifest(format!(
            "cannot use source images from a different registry than the target image: {} != {}",
            from.domain(),
            target.domain()
        )));
    }
    Ok((from.name() != target.name()).then_some(from))
}

fn remove(args: &RemoveArgs) -> Result<()> {
    let lists = lists();
    let mut failed = false;
    for name in &args.lists {
        let removed = reference(name).and_then(|list| match lists.remove(&list)? {
            true => Ok(()),
            false => Err(no_such_manifest(&list)),
        });
        if let Err(error) = removed {
            failed = true;
            say(full_text(&error));
        }
    }
    if failed { Err(Error::Reported) } else { Ok(()) }
}

fn no_such_manifest(name: &Reference) -> Error {
    Error::Manifest(format!("No such manifest: {}", name.canonical()))
}

/// Registries, through the engine.
struct Registry {
    client: Client,
    insecure: bool,
}

/// What a name stands for in a registry.
enum Found {
    Image(Box<Member>),
    List(Vec<Descriptor>),
}

impl Registry {
    async fn get(&self, name: &Reference) -> Result<Found> {
        let auth = registries::auth_header(&name.name())?;
        let answer = self.client.registry_manifest(&name.canonical(), self.insecure, auth.as_deref()).await;
        let answer = match answer {
            Err(error) if error.is_not_found() => {
                return Err(Error::Manifest(format!("no such manifest: {}", name.canonical())));
            }
            answer => answer?,
        };
        let unusable = |reason: String| Error::Manifest(format!("cannot use {}: {reason}", name.canonical()));
        let descriptor: Descriptor =
            serde_json::from_value(answer.descriptor).map_err(|error| unusable(error.to_string()))?;
        let raw = base64::decode(&answer.content).ok_or_else(|| unusable("it is no base64".to_owned()))?;
        match Document::parse(&raw, Some(&descriptor.media_type)) {
            Ok(Document::Index(index)) => Ok(Found::List(index.manifests)),
            Ok(Document::Manifest(_)) => {
                let reference = name.canonical();
                Ok(Found::Image(Box::new(Member { reference, descriptor, raw })))
            }
            Err(error) => Err(unusable(full_text(&error))),
        }
    }

    /// An image of a list, which says what it runs on.
    async fn member_of(&self, list: &Reference, descriptor: &Descriptor) -> Result<Member> {
        match self.get(&list.clone().with_digest(descriptor.digest)).await? {
            Found::Image(mut member) => {
                member.descriptor.platform.clone_from(&descriptor.platform);
                Ok(*member)
            }
            Found::List(_) => Err(Error::Manifest(format!("{}: a list within a list", list.canonical()))),
        }
    }

    async fn put(&self, new: &NewManifest, target: &Reference) -> Result<String> {
        let auth = registries::auth_header(&target.name())?;
        Ok(self.client.put_registry_manifest(new, auth.as_deref()).await?.digest)
    }
}
