internal import CBlockKernels

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Which variant of the block kernels runs. All variants return the same bits and differ only in speed.
public enum KernelTier: String, Hashable, Sendable, CaseIterable {
  /// Plain C, on any processor.
  case portable
  /// AVX2 with F16C and BMI2.
  case avx2
  /// AVX-512 F, BW, DQ, VL and VBMI.
  case avx512
  /// Arm's NEON.
  case neon

  /// The best variant that this processor supports.
  public static let best: KernelTier = KernelTier(cbk_best_tier())

  /// Every variant that this processor supports, slowest first.
  public static let runnable: [KernelTier] =
    switch best {
    case .portable: [.portable]
    case .avx2: [.portable, .avx2]
    case .avx512: [.portable, .avx2, .avx512]
    case .neon: [.portable, .neon]
    }

  /// The variant in use: the best one, unless the environment variable `STEP3_KERNELS` names another supported one.
  public static let active: KernelTier = {
    guard let text = unsafe getenv("STEP3_KERNELS") else { return best }
    let wanted = unsafe KernelTier(rawValue: String(cString: text))
    return wanted.flatMap { runnable.contains($0) ? $0 : nil } ?? best
  }()

  init(_ tier: cbk_tier) {
    switch tier {
    case CBK_AVX2: self = .avx2
    case CBK_AVX512: self = .avx512
    case CBK_NEON: self = .neon
    default: self = .portable
    }
  }

  var kernelValue: cbk_tier {
    switch self {
    case .portable: CBK_PORTABLE
    case .avx2: CBK_AVX2
    case .avx512: CBK_AVX512
    case .neon: CBK_NEON
    }
  }
}
