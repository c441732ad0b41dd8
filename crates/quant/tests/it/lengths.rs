//! Lengths that do not belong together are refused, and nothing is written.

use quant::Format;

#[test]
fn every_format_refuses_wrong_lengths() {
    for format in Format::ALL {
        let (bytes, len) = (format.block_bytes(), format.block_len());
        let src = vec![0; 2 * bytes];
        let mut dst = vec![7.0; 2 * len];
        for (n_src, n_dst) in
            [(2 * bytes - 1, 2 * len), (2 * bytes, 2 * len - 1), (bytes, 2 * len), (2 * bytes, len), (0, len)]
        {
            let result = format.dequantize(&src[..n_src], &mut dst[..n_dst]);
            assert!(result.is_err(), "{format}: {n_src} bytes into {n_dst} values");
        }
        assert!(dst.iter().all(|&value| value == 7.0), "{format}");
        format.dequantize(&[], &mut []).unwrap();
        format.dequantize(&src, &mut dst).unwrap();
        assert!(dst.iter().all(|&value| value == 0.0), "{format}");
    }
}

#[test]
fn errors_say_what_was_expected() {
    let error = Format::Q4_K.dequantize(&[0; 145], &mut [0.0; 256]).unwrap_err();
    assert_eq!(error.to_string(), "Q4_K: expected a multiple of 144 bytes, found 145");
    let error = Format::Q4_K.dequantize(&[0; 144], &mut [0.0; 32]).unwrap_err();
    assert_eq!(error.to_string(), "Q4_K: expected room for 256 values, found 32");
}
