//! Data sets from folders of images, a folder a class.

use std::path::{Path, PathBuf};

use fedistill_protocol::Elements;
use image::imageops::FilterType;

use crate::{DataError, Dataset, Samples};

impl Dataset {
    /// PNG and JPEG images in `folder/CLASS/`, brought to `shape`: `[1, height, width]` for grey,
    /// `[3, height, width]` for colour. Files are taken in the order of their names.
    ///
    /// # Errors
    /// A folder that cannot be read or is no class, or an image that cannot be decoded.
    pub fn image_folder(
        folder: &Path,
        shape: &[u32],
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        let mut values = Vec::new();
        let mut labels = Vec::new();
        for class in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
            let name = class.file_name().unwrap_or_default().to_string_lossy();
            let label = classes.iter().position(|known| *known == name);
            let label = label.ok_or_else(|| {
                let why = format!("{name:?} is none of the {} classes", classes.len());
                DataError::malformed(&class, why)
            })?;
            for path in entries(&class)?.into_iter().filter(|path| is_image(path)) {
                read(&path, shape, &mut values)?;
                labels.push(label as u32);
            }
        }
        if labels.is_empty() {
            let why = "no images in its folders of classes";
            return Err(DataError::malformed(folder, why));
        }
        let samples = whole(folder, shape, values)?;
        Self::new(folder, samples, labels, classes)
    }
}

impl Samples {
    /// PNG and JPEG images in `folder` and the folders in it, whatever their names, brought to
    /// `shape` as by [`Dataset::image_folder`].
    ///
    /// # Errors
    /// As there.
    pub fn image_folder(folder: &Path, shape: &[u32]) -> Result<Self, DataError> {
        let mut values = Vec::new();
        let mut paths = Vec::new();
        for path in entries(folder)? {
            match path.is_dir() {
                true => paths.extend(entries(&path)?),
                false => paths.push(path),
            }
        }
        for path in paths.iter().filter(|path| is_image(path)) {
            read(path, shape, &mut values)?;
        }
        if values.is_empty() {
            return Err(DataError::malformed(folder, "no images in it"));
        }
        whole(folder, shape, values)
    }
}

impl Samples {
    /// One PNG or JPEG image, brought to `shape` as by [`Dataset::image_folder`]; errors call it `path`.
    ///
    /// # Errors
    /// Bytes that are no such image.
    pub fn image_from(path: &Path, bytes: &[u8], shape: &[u32]) -> Result<Self, DataError> {
        let mut values = Vec::new();
        check(path, shape)?;
        let image = image::load_from_memory(bytes);
        let image = image.map_err(|error| DataError::malformed(path, error))?;
        bring(image, shape, &mut values);
        whole(path, shape, values)
    }
}

fn whole(folder: &Path, shape: &[u32], values: Vec<u8>) -> Result<Samples, DataError> {
    Samples::new(shape.to_owned(), Elements::U8(values))
        .ok_or_else(|| DataError::malformed(folder, "images of no pixels"))
}

/// Appends the values of one image, brought to `shape`.
fn read(path: &Path, shape: &[u32], values: &mut Vec<u8>) -> Result<(), DataError> {
    check(path, shape)?;
    let image = image::open(path).map_err(|error| DataError::malformed(path, error))?;
    bring(image, shape, values);
    Ok(())
}

/// Whether images can be brought to `shape`.
fn check(path: &Path, shape: &[u32]) -> Result<(), DataError> {
    if !matches!(shape, [1 | 3, _, _]) {
        let why = format!("images are [1 or 3, height, width], asked for is {shape:?}");
        return Err(DataError::malformed(path, why));
    }
    if Samples::values(shape).is_none() {
        let most = Samples::MOST_VALUES;
        let why = format!("asked for is {shape:?}: a sample may have at most {most} values");
        return Err(DataError::malformed(path, why));
    }
    Ok(())
}

/// Appends an image's values at a shape that has been checked.
fn bring(image: image::DynamicImage, shape: &[u32], values: &mut Vec<u8>) {
    let &[channels, height, width] = shape else {
        return;
    };
    let image = match (image.width(), image.height()) == (width, height) {
        true => image,
        false => image.resize_exact(width, height, FilterType::Triangle),
    };
    match channels {
        1 => values.extend(image.to_luma8().into_raw()),
        _ => values.extend(planes(&image.to_rgb8().into_raw())),
    }
}

/// Channels first, as everything else here has them.
fn planes(pixels: &[u8]) -> Vec<u8> {
    (0..3)
        .flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied())
        .collect()
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    ["png", "jpg", "jpeg"]
        .iter()
        .any(|known| extension == *known)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let fail =
        |error: std::io::Error| DataError::malformed(folder, format!("cannot list it: {error}"));
    let entries = std::fs::read_dir(folder).map_err(fail)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    #[test]
    fn folders_are_classes() {
        let folder = tempfile::tempdir().unwrap();
        let classes = vec!["cat".to_owned(), "dog".to_owned()];
        let read = |shape: &[u32]| Dataset::image_folder(folder.path(), shape, classes.clone());
        assert!(
            read(&[1, 2, 2])
                .unwrap_err()
                .to_string()
                .contains("no images")
        );
        for (class, name, shade) in [
            ("dog", "b.png", 255),
            ("dog", "a.png", 0),
            ("cat", "x.png", 51),
        ] {
            let path = folder.path().join(class);
            std::fs::create_dir_all(&path).unwrap();
            let image = RgbImage::from_pixel(2, 2, Rgb([shade, 0, 0]));
            image.save(path.join(name)).unwrap();
        }
        std::fs::write(folder.path().join("dog/notes.txt"), "no image").unwrap();
        let colour = read(&[3, 2, 2]).unwrap();
        assert_eq!(colour.labels(), [0, 1, 1]);
        let mut values = Vec::new();
        colour.samples().gather(&[2], &mut values);
        assert_eq!(
            values,
            [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        );
        assert_eq!(read(&[1, 4, 3]).unwrap().samples().width(), 12);
        std::fs::write(folder.path().join("cat/broken.png"), "no image").unwrap();
        assert!(
            read(&[1, 2, 2])
                .unwrap_err()
                .to_string()
                .contains("broken.png")
        );
        std::fs::remove_file(folder.path().join("cat/broken.png")).unwrap();
        std::fs::create_dir(folder.path().join("cow")).unwrap();
        assert!(read(&[1, 2, 2]).unwrap_err().to_string().contains("cow"));
    }
}
