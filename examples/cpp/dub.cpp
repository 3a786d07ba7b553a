// Dubs a media file: dub INPUT --to es [--from en] [-o DIR] [--shout]
//
// With --shout the translator is one of this program's own, which shouts what the embedded one says.

#include <cctype>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "dubcore.hpp"

namespace fs = std::filesystem;

namespace {

struct Arguments {
    std::string input, to;
    std::optional<std::string> from, out;
    bool shout = false;
};

std::optional<Arguments> parse(int argc, char **argv)
{
    Arguments given;
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        const bool more = i + 1 < argc;
        if (word == "--to" && more)
            given.to = argv[++i];
        else if (word == "--from" && more)
            given.from = argv[++i];
        else if (word == "-o" && more)
            given.out = argv[++i];
        else if (word == "--shout")
            given.shout = true;
        else if (word[0] != '-' && given.input.empty())
            given.input = word;
        else
            return std::nullopt;
    }
    if (given.input.empty() || given.to.empty())
        return std::nullopt;
    return given;
}

// A stage of the host's own: here it asks another one, in real life a service.
void add_shouter(const dubcore::Factory &factory)
{
    auto quiet = std::make_shared<dubcore::Translator>(factory, "micro/mt-en-es");
    factory.add_translator(
        "shouting:en-es",
        [quiet](std::string_view text, std::string_view from, std::string_view to) {
            std::string said(quiet->translate({std::string(text)}, std::string(from), std::string(to))[0]);
            for (char &letter : said)
                letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
            return said;
        },
        {{"from", "en"}, {"to", "es"}});
}

void dub(const Arguments &given)
{
    const fs::path input = given.input;
    const fs::path folder = given.out ? fs::path(*given.out) : input.has_parent_path() ? input.parent_path() : ".";
    const std::string stem = input.stem().string();

    const dubcore::Factory factory;
    dubcore::Options models;
    if (given.shout) {
        add_shouter(factory);
        models.set("translator", "shouting:en-es");
    }
    const dubcore::Pipeline pipeline(factory, given.from, given.to, models);

    dubcore::Options options{{"output", (folder / (stem + "." + given.to + ".wav")).string()}};
    if (given.from)
        options.set("from", *given.from);
    const dubcore::Request request = dubcore::Request::file(given.input, given.to, options);

    fs::create_directories(folder);
    const dubcore::Run run = pipeline.start(request);
    for (const dubcore::Line &line : run) {
        if (line.failed())
            std::cout << "a line failed\n";
        else
            std::cout << line.target().start << " s  " << line.source().text << " -> " << line.target().text << "\n";
    }
    const dubcore::Result result = run.finish();
    result.save(folder.string(), stem);
    for (const std::string &file : result.files())
        std::cout << "wrote " << file << "\n";
}

} // namespace

int main(int argc, char **argv)
{
    const std::optional<Arguments> given = parse(argc, argv);
    if (!given) {
        std::cerr << "usage: dub INPUT --to LANGUAGE [--from LANGUAGE] [-o DIR] [--shout]\n";
        return 2;
    }
    try {
        dub(*given);
        return 0;
    } catch (const std::exception &e) {
        std::cerr << "dub: " << e.what() << "\n";
        return 1;
    }
}
