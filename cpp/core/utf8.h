// UTF-8: checking what comes in, and joining what comes out of tokens that end in the middle of a character.
#pragma once

#include <string>
#include <string_view>

namespace personaplug {

// Strict UTF-8 (no surrogates, no overlong forms).
bool is_utf8(std::string_view bytes);

// Turns pieces of bytes into whole characters. A character split over tokens is given when its last byte came; bytes
// that can never become a character come out as U+FFFD, one for each maximal broken part (Unicode 15, section 3.9).
class Utf8Assembler {
  public:
    // Whole characters that `bytes` completes; up to 3 bytes are held back.
    std::string push(std::string_view bytes);
    // What is left when nothing follows: "" or U+FFFD.
    std::string flush();

  private:
    std::string held_;
};

} // namespace personaplug
