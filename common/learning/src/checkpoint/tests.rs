use std::collections::BTreeMap;
use std::fs;

use fedistill_protocol::Optimiser;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::tensors::views;
use super::*;

#[test]
fn a_small_file_makes_no_room_for_a_large_net() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge");
    let net = Architecture::MlpS.build(&[2], 2, 7).unwrap();
    let mut about = About {
        architecture: Some(Architecture::MlpL),
        input: vec![4_000_000],
        classes: ["a", "b"].map(str::to_owned).to_vec(),
    };
    save(&path, &net, &about, None).unwrap();
    // 8 GB of parameters, and as many gradients.
    let error = load(&path).unwrap().net().err().unwrap().to_string();
    assert!(
        error.contains("[4000000]") && error.contains("the file holds 322"),
        "{error}"
    );
    about.input = vec![u32::MAX; 3];
    save(&path, &net, &about, None).unwrap();
    assert!(load(&path).unwrap().net().is_err());
}

#[test]
fn a_net_comes_back_whole_and_a_broken_file_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    let net = Architecture::ConvS.build(&[1, 8, 8], 3, 7).unwrap();
    let about = About {
        architecture: Some(Architecture::ConvS),
        input: vec![1, 8, 8],
        classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
    };
    let adam = Optimiser::AdamW {
        learning_rate: 0.001,
        weight_decay: 0.01,
    };
    let mut optimiser = OptimiserState::new(adam, net.weights().len());
    let mut weights = net.weights().to_vec();
    optimiser.step(&mut weights, &vec![0.5; net.weights().len()]);
    save(&path, &net, &about, Some(&optimiser)).unwrap();
    let loaded = load(&path).unwrap();
    assert_eq!(loaded.about, about);
    assert_eq!(loaded.optimiser, Some(optimiser));
    assert_eq!(loaded.net().unwrap().weights(), net.weights());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let bytes = fs::read(&path).unwrap();
    save(&path, &net, &about, loaded.optimiser.as_ref()).unwrap();
    assert_eq!(
        fs::read(&path).unwrap(),
        bytes,
        "the same model, the same bytes"
    );

    let mut names = BTreeMap::new();
    let mut same = Architecture::ConvS.build(&[1, 8, 8], 3, 8).unwrap();
    import(&path, &mut same, &names).unwrap();
    assert_eq!(same.weights(), net.weights());
    let first = net.parameters()[0].name.clone();
    names.insert(first, "other".to_owned());
    let error = import(&path, &mut same, &names).unwrap_err().to_string();
    assert!(
        error.contains("no tensor other") && error.contains("the file has"),
        "{error}"
    );

    // As PyTorch's batch norm has it.
    let counter = TensorView::new(Dtype::I64, vec![], &[7; 8]).unwrap();
    let more = views(&path, &bytes).unwrap().into_iter();
    let more = more.chain([("bn.num_batches_tracked".to_owned(), counter)]);
    let more = safetensors::serialize(more, None).unwrap();
    let foreign = folder.path().join("foreign.safetensors");
    fs::write(&foreign, more).unwrap();
    import(&foreign, &mut same, &BTreeMap::new()).unwrap();

    let mut other = Architecture::MlpS.build(&[1, 8, 8], 3, 7).unwrap();
    let error = loaded.restore(&mut other).unwrap_err().to_string();
    assert!(error.contains("no parameter 0.linear.weight"), "{error}");
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("no safetensors file"), "{error}");
    assert!(
        load(&folder.path().join("none"))
            .unwrap_err()
            .to_string()
            .contains("none")
    );
}
