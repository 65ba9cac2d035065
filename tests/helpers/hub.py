"""What stands for a hub of models."""

from pathlib import Path


class FakeApi:
    """Takes what would be sent."""

    sent = []

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, **more):
        self.sent.append((self.token, repo_id, more))
        return type("Repo", (), {"repo_id": repo_id})

    def upload_folder(self, folder_path, **more):
        self.sent.append({file.name: file.read_bytes() for file in Path(folder_path).iterdir()})
        return "there"
