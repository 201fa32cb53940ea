// Usage: personaplug_tests MODEL.gguf; the exit code says whether all went well.
#include "check.h"

int main(int argc, char **argv) {
    using namespace personaplug::test;
    if (argc != 2) {
        std::printf("usage: %s MODEL.gguf\n", argv[0]);
        return 2;
    }
    model_path() = argv[1];
    for (const Case &test : cases()) {
        const int before = failures();
        try {
            test.run();
        } catch (const std::exception &error) {
            ++failures();
            std::printf("%s: %s\n", test.name, error.what());
        }
        std::printf("%s %s\n", failures() == before ? "ok  " : "FAIL", test.name);
    }
    std::printf("%zu tests, %d failures\n", cases().size(), failures());
    return failures() == 0 ? 0 : 1;
}
