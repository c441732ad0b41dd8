"""A build backend that only answers with the metadata a source archive already carries in PKG-INFO.

`pip download` asks an archive's own backend for them, for which pip would first install a C++ build system.
"""
import email, os, shutil


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    with open("PKG-INFO", encoding="utf-8") as f:
        info = email.message_from_file(f)
    name = f"{info['Name'].replace('-', '_')}-{info['Version']}.dist-info"
    os.makedirs(os.path.join(directory, name))
    shutil.copy("PKG-INFO", os.path.join(directory, name, "METADATA"))
    return name
