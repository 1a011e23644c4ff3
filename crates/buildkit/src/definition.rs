//! Results of builds as definitions. A client that links builds takes the definition of one's result and gives it to
//! another; it looks no further into it than that its operations are operations. Ours has one, a source with a name that
//! only we can resolve.

use crate::limits;
use crate::proto::pb::{Definition, Input, Op, OpMetadata, SourceOp, op};
use prost::Message;
use sha2::{Digest, Sha256};

/// How names of such sources begin.
const SCHEME: &str = "coracle-result://";

/// A definition that stands for the result called `name`.
pub fn definition_of(name: &str) -> Definition {
    let source = SourceOp { identifier: format!("{SCHEME}{name}"), ..SourceOp::default() };
    let source = Op { op: Some(op::Op::Source(source)), ..Op::default() }.encode_to_vec();
    let digest = format!("sha256:{}", hex(&Sha256::digest(&source)));
    let last = Op { inputs: vec![Input { digest: digest.clone(), index: 0 }], ..Op::default() };
    Definition {
        def: vec![source, last.encode_to_vec()],
        metadata: [(digest, OpMetadata::default())].into(),
        ..Definition::default()
    }
}

/// The name of the result that a definition stands for; nothing for definitions that others made.
pub fn result_of(definition: &Definition) -> Option<String> {
    if definition.def.len() > limits::OPERATIONS {
        return None;
    }
    let operations: Vec<Op> =
        definition.def.iter().map(|bytes| Op::decode(&bytes[..])).collect::<Result<_, _>>().ok()?;
    let mut sources = operations.into_iter().filter_map(|operation| operation.op);
    let (Some(op::Op::Source(source)), None) = (sources.next(), sources.next()) else { return None };
    source.identifier.strip_prefix(SCHEME).map(str::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::pb::ExecOp;

    #[test]
    fn only_our_own_definitions_are_read() {
        let ours = definition_of("build/3");
        assert_eq!(result_of(&ours).as_deref(), Some("build/3"));
        let last = Op::decode(&ours.def[1][..]).unwrap();
        assert_eq!(last.inputs[0].digest, format!("sha256:{}", hex(&Sha256::digest(&ours.def[0]))));

        let image =
            SourceOp { identifier: "docker-image://docker.io/library/alpine".into(), ..SourceOp::default() };
        let image = Op { op: Some(op::Op::Source(image)), ..Op::default() };
        let command = Op { op: Some(op::Op::Exec(ExecOp::default())), ..Op::default() };
        let mut mixed = ours.clone();
        mixed.def.insert(1, command.encode_to_vec());
        for (what, foreign) in [
            ("nothing", Definition::default()),
            ("an image", Definition { def: vec![image.encode_to_vec()], ..Definition::default() }),
            ("ours and a command", mixed),
            ("no operation", Definition { def: vec![vec![0xff; 3]], ..Definition::default() }),
            ("too much", Definition { def: vec![ours.def[0].clone(); limits::OPERATIONS + 1], ..ours }),
        ] {
            assert_eq!(result_of(&foreign), None, "{what}");
        }
    }
}
