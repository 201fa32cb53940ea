#include "utf8.h"

#include <algorithm>
#include <cstdint>

namespace personaplug {
namespace {

constexpr const char *kReplacement = "\xEF\xBF\xBD";

struct Step {
    size_t length;                        // bytes looked at that belong together
    enum { kWhole, kBroken, kCut } state; // kCut: a valid beginning at the end of the bytes
};

Step next(std::string_view bytes) {
    const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
    const uint8_t lead = at(0);
    if (lead < 0x80) {
        return {1, Step::kWhole};
    }
    const size_t wanted = lead >= 0xC2 && lead <= 0xDF   ? 2
                          : lead >= 0xE0 && lead <= 0xEF ? 3
                          : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                         : 0;
    if (wanted == 0) {
        return {1, Step::kBroken};
    }
    for (size_t i = 1; i < wanted; ++i) {
        if (i == bytes.size()) {
            return {i, Step::kCut};
        }
        // The second byte alone rules out overlong forms, surrogates and code points past U+10FFFF.
        const uint8_t low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        const uint8_t high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (at(i) < low || at(i) > high) {
            return {i, Step::kBroken};
        }
    }
    return {wanted, Step::kWhole};
}

} // namespace

bool is_utf8(std::string_view bytes) {
    while (!bytes.empty()) {
        const Step step = next(bytes);
        if (step.state != Step::kWhole) {
            return false;
        }
        bytes.remove_prefix(step.length);
    }
    return true;
}

std::string Utf8Assembler::push(std::string_view bytes) {
    if (held_.empty() &&
        std::all_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; })) {
        return std::string(bytes);
    }
    const std::string joined = held_ + std::string(bytes);
    held_.clear();
    std::string text;
    for (std::string_view left = joined; !left.empty();) {
        const Step step = next(left);
        if (step.state == Step::kCut) {
            held_ = left;
            break;
        }
        text += step.state == Step::kWhole ? left.substr(0, step.length) : std::string_view(kReplacement);
        left.remove_prefix(step.length);
    }
    return text;
}

std::string Utf8Assembler::flush() {
    const bool cut = !held_.empty();
    held_.clear();
    return cut ? kReplacement : "";
}

} // namespace personaplug
