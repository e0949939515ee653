# Clone, also from where it has moved away, push, and large files as Git LFS moves them.
set -e
cd "$(mktemp -d)"
git config --global user.name Bot
git config --global user.email bot@example.test
git clone -q https://git.example.test/project.git
git clone -q "$SHOP/moved/project.git" moved
cd project
git commit -q --allow-empty -m pushed
git push -q origin HEAD:refs/heads/topic
git config lfs.url "$SHOP/lfs"
git config lfs.locksverify false
git lfs install --local > /dev/null
git lfs track '*.bin' > /dev/null
cp "$BULK" bulk.bin
git add .
git commit -q -m large
git push -q origin HEAD:refs/heads/large
rm -rf .git/lfs/objects bulk.bin
git lfs pull 2> /dev/null
git checkout -q -- bulk.bin
echo "download $(sha256sum < bulk.bin | cut -d' ' -f1)"
echo "own $(git ls-remote origin | grep -c 'refs/heads/\(topic\|large\)')"
