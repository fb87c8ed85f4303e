"""A variational autoencoder."""

import torch
import torch.utils.data
from harness import compiled, load, noise, record
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 100)
        self.fc21 = nn.Linear(100, 20)
        self.fc22 = nn.Linear(100, 20)
        self.fc3 = nn.Linear(20, 100)
        self.fc4 = nn.Linear(100, 784)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        torch.randn_like(std)
        return eps.mul(std).add_(mu)

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x, eps):
        mu, logvar = self.encode(x.view(-1, 784))
        return self.decode(self.reparameterize(mu, logvar, eps)), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(1)
kwargs = {"num_workers": 1, "pin_memory": True} if device.type == "cuda" else {}
imgs = torch.sigmoid(noise(320, 1, 28, 28))
loader = DataLoader(
    TensorDataset(imgs, torch.zeros(320).long()), batch_size=32, shuffle=False, **kwargs
)
model = load(VAE().to(device))
optimizer = optim.Adam(model.parameters(), lr=1e-3)


@compiled
def step(data, eps):
    optimizer.zero_grad()
    recon, mu, logvar = model(data, eps)
    loss = loss_function(recon, data, mu, logvar)
    loss.backward()
    optimizer.step()
    return loss


def train(epoch):
    model.train()
    train_loss = 0
    for batch_idx, (data, _) in enumerate(loader):
        data = data.to(device, non_blocking=True)
        loss = step(data, noise(32, 20))
        train_loss += loss.item()
        record(loss.item() / len(data))


for e in range(1, 3):
    train(e)
with torch.no_grad():
    sample = torch.randn(64, 20).to(device)
    sample = model.decode(sample).cpu()
    img = sample.view(64, 1, 28, 28)
    assert img.shape == torch.Size([64, 1, 28, 28])
